"""The reason for a death, among noise."""

import pytest

from compass.probe.failures import classify_exit
from compass.probe.last_words import reason_of_death
from compass.records import Status

MODULES = "\n\nExtension modules: numpy._core._multiarray_umath, torch._C (total: 2)\n"
LIBRARY = '  File "/opt/lib/python3.11/ctypes/__init__.py", line 519 in string_at\n'
STACK = f"""
Current thread 0x00007fc65a1bdb80 (most recent call first):
{LIBRARY}  File "/home/me/my_model.py", line 4 in forward
  File "/home/me/site-packages/torch/nn.py", line 9 in __call__

Thread 0x00007fc65a1bdb81 (most recent call first):
  File "/home/me/other.py", line 1 in run
"""
TRACE = f"""Traceback (most recent call last):
  File "/home/me/my_model.py", line 9, in loss
    raise RuntimeError("the reason")
          ^^^^^^^^^^^^^^^^^^^^^^^^^^
{LIBRARY.replace("519 in", "519, in")}RuntimeError: the reason
"""
WARNED = "[W1130 21:22:33.123 ProcessGroup.cpp:12] Warning: destroy_process_group() was not called\n"
LEAKED = "/lib/tracker.py:216: UserWarning: resource_tracker: There appear to be 3 leaked semaphore objects\n  warnings.warn('…')\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("epoch 3\nFatal Python error: Segmentation fault\n" + STACK + MODULES,
         "Segmentation fault (my_model.py, line 4, in forward)"),
        ("terminate called after throwing an instance of 'std::runtime_error'\n  what():  kernel image is bad\n"
         "Fatal Python error: Aborted\n" + STACK + MODULES, "C++ exception std::runtime_error: kernel image is bad"),
        ("terminate called after throwing an instance of 'int'\nFatal Python error: Aborted\n", "C++ exception int"),
        ("terminate called without an active exception\n", "terminate called without an active exception"),
        ("python: mesh.c:12: f: Assertion `n > 0' failed.\n" + WARNED + "Fatal Python error: Aborted\n" + STACK,
         "python: mesh.c:12: f: Assertion `n > 0' failed."),
        ("free(): invalid pointer\nFatal Python error: Aborted\n", "free(): invalid pointer"),
        ("epoch 3\nFatal Python error: Aborted\n" + STACK, "Aborted (my_model.py, line 4, in forward)"),
        (WARNED + TRACE + LEAKED, "RuntimeError: the reason (my_model.py, line 9, in loss)"),
        (TRACE + "Exception ignored in: <function f>\n" + TRACE.replace("the reason", "noise"),
         "RuntimeError: the reason (my_model.py, line 9, in loss)"),
        (WARNED + LEAKED, ""),
        ("", ""),
    ],
    ids=["segfault", "terminate", "int", "terminate alone", "assert", "free", "abort", "exception", "ignored", "noise", "none"],
)  # fmt: skip
def test_the_reason(text, reason):
    assert reason_of_death(text) == reason
    status, detail = classify_exit(-6, text, ceiling=False)
    assert status is Status.CRASHED
    assert detail == (f"died of SIGABRT: {reason}" if reason else "died of SIGABRT without any output")


def test_other_words_are_kept_without_the_noise():
    assert classify_exit(7, "loading\n" + WARNED + "cannot go on\n" + LEAKED, ceiling=False)[1].startswith(
        "ended with exit code 7: loading\ncannot go on"
    )
