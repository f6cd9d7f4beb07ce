"""Worker processes that die, and what that costs."""

from __future__ import annotations

import ctypes
import operator
import os
import signal
import subprocess
import sys
from functools import partial
from itertools import chain
from threading import Timer

import pytest

from compass.data import pool
from compass.data.pool import CHUNK, each
from compass.errors import WorkerError

# A task is a call, and the work is to make it: nothing here has to be imported by a worker.
DIES = (partial(os._exit, 3), partial(ctypes.string_at, 0))


def test_a_task_that_kills_its_process_costs_itself_alone():
    fine = [partial(abs, -number) for number in range(3 * CHUNK)]
    tasks = [*fine[:2], DIES[0], *fine[2 : 2 * CHUNK], DIES[1], *fine[2 * CHUNK :]]
    results = list(chain(*each(operator.call, tasks, n_workers=2, died=lambda task: f"died: {task.args}")))
    assert sorted(result for task, result in results if task not in DIES) == list(range(3 * CHUNK))
    assert [result for task, result in results if task is DIES[0]] == ["died: (3,)"]
    assert [result for task, result in results if task is DIES[1]] == ["died: (0,)"]
    assert all(task.args == (-result,) for task, result in results if task not in DIES)


TEARS = """
import os, signal, struct, sys
frame = sys._getframe()
while "result_queue" not in frame.f_locals:
    frame = frame.f_back
os.write(frame.f_locals["result_queue"]._writer.fileno(), struct.pack("!i", 1000) + b"a part")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_while_it_writes_its_result_costs_its_task_alone(monkeypatch):
    """A part of a result stays in the pipe, and the pool would wait for the rest for ever."""
    monkeypatch.setattr(pool, "LOOK_S", 0.5)
    torn, fine = partial(exec, TEARS), [partial(abs, -number) for number in range(2 * CHUNK)]
    results = list(chain(*each(operator.call, [torn, *fine], n_workers=2, died=lambda _: "died")))
    assert [result for task, result in results if task is torn] == ["died"]
    assert sorted(result for task, result in results if task is not torn) == list(range(2 * CHUNK))


def test_tasks_are_drawn_as_they_are_needed():
    drawn = 0

    def tasks():
        nonlocal drawn
        for number in range(10_000):
            drawn += 1
            yield partial(abs, number)

    results = each(operator.call, tasks(), n_workers=1, died=abs)
    assert len(next(results)) == CHUNK
    assert drawn <= 5 * CHUNK
    results.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no signals that stop")
def test_processes_that_are_killed_while_all_end_do_not_keep_the_others(monkeypatch):
    """One of the idle processes holds the lock under which all wait for the end: of five that stand still, four are killed."""
    monkeypatch.setattr(pool, "LOOK_S", 0.2)

    def kill_all_but_the_last():
        for process in alive[:-1]:
            process.kill()
        os.kill(alive[-1].pid, signal.SIGCONT)

    with pool._pool(abs, 5) as processes:
        for task in [processes.submit(pool._do, (number,)) for number in range(20)]:
            task.result()
        alive = list(processes._processes.values())
        for process in alive:
            os.kill(process.pid, signal.SIGSTOP)
        Timer(0.5, kill_all_but_the_last).start()
    assert not any(process.is_alive() for process in alive)


@pytest.mark.skipif(sys.platform == "win32", reason="no masks of signals")
def test_processes_never_see_an_interrupt():
    """It reaches the whole group of a terminal, while they start too."""
    block_nothing = partial(signal.pthread_sigmask, signal.SIG_BLOCK)
    ((_, blocked),) = next(each(block_nothing, [()], n_workers=1, died=lambda _: None))
    assert signal.SIGINT in blocked
    assert signal.SIGINT not in block_nothing(())


def test_nothing_to_do():
    assert list(each(operator.call, [], n_workers=1, died=abs)) == []


def test_processes_that_do_not_start(monkeypatch):
    """The work cannot be read by the worker, which ends before it is given anything."""
    monkeypatch.setattr(pool, "_begin", os._exit)
    with pytest.raises(WorkerError) as caught:
        list(each(3, [1, 2], n_workers=1, died=abs))
    assert str(caught.value) == (
        "worker processes: got one that ended before its first task; expected it to start. Its messages are above."
    )


def test_a_script_without_a_main_guard_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from compass.data.pool import each\n"
        "print(sorted(result for chunk in each(abs, [-3, -2, -1], n_workers=2, died=abs) for _, result in chunk))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "once\n[1, 2, 3]\n"
