"""Ctrl-C while an interpreter starts."""

import signal
import subprocess
import sys

import pytest

from compass.interrupts import interrupts_wait

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no masks of signals")
REPLACED = """
import os, signal, sys
from compass.interrupts import interrupts_wait
with interrupts_wait():
    signal.raise_signal(signal.SIGINT)
    os.execv(sys.executable, [sys.executable, "-m", "compass", "--version"])
"""


def test_one_that_comes_in_the_block_is_raised_at_its_end():
    done = []

    def interrupted():
        with interrupts_wait():
            signal.raise_signal(signal.SIGINT)  # to this thread: another one does not block it
            done.append("the rest of the block")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done


def test_one_that_comes_before_a_process_is_replaced_ends_the_next_one_in_a_line():
    done = subprocess.run([sys.executable, "-c", REPLACED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
