import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from compass.errors import InputError
from compass.training import run_lock
from compass.training.run_lock import DESCRIPTOR, LOCK, hand_on, keep_lock, lock_run

HOLDS = "import sys, time\nfrom pathlib import Path\nfrom compass.training.run_lock import lock_run\nlock_run(Path(sys.argv[1]))\n"
HOLDS += "print('held', flush=True)\ntime.sleep(60)"


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock."""
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_the_first_is_named(other, tmp_path):
    with pytest.raises(InputError) as caught:
        lock_run(tmp_path)
    assert str(caught.value) == (
        f"run folder {tmp_path}: got one in which process {other.pid} on {os.uname().nodename} trains; expected a folder that no "
        f"other run uses. Wait for it, stop it, or choose another --out. If it has ended, delete {tmp_path}/run.lock."
    )
    other.send_signal(signal.SIGSTOP)  # a stopped process holds it too
    with pytest.raises(InputError):
        lock_run(tmp_path)


def test_a_killed_process_holds_nothing(other, tmp_path):
    other.kill()
    other.wait()
    os.close(lock_run(tmp_path))


def test_the_lock_goes_over_to_the_process_that_a_process_becomes_or_starts(tmp_path, monkeypatch):
    held = lock_run(tmp_path)
    code = "import sys\nfrom pathlib import Path\nfrom compass.training.run_lock import keep_lock\nprint(keep_lock(Path(sys.argv[1])))"
    given = {**os.environ, **hand_on(held)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=given,
        pass_fds=[held],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{held}\n"
    alone = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "expected a folder that no other run uses" in alone.stderr
    monkeypatch.setenv(DESCRIPTOR, "2")  # of something else
    with pytest.raises(InputError, match="expected a folder that no other run uses"):
        keep_lock(tmp_path)
    os.close(held)
    os.close(keep_lock(tmp_path))


def test_a_fork_does_not_hold_the_lock_of_a_killed_process(tmp_path):
    """Loader processes are forks, and live on for seconds."""
    code = HOLDS.replace("lock_run", "keep_lock").replace(
        "print('held', flush=True)", "import os\nos.write(1, b'held\\n' if os.fork() else b'let go\\n')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert {process.stdout.readline() for _ in range(2)} == {"held\n", "let go\n"}
        with pytest.raises(InputError):
            lock_run(tmp_path)
        process.kill()
        process.wait()
        os.close(lock_run(tmp_path))
        os.killpg(process.pid, signal.SIGKILL)  # the fork


def test_without_locks_the_note_decides(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(run_lock.errno.ENOLCK, "no locks")

    monkeypatch.setattr(run_lock.fcntl, "flock", refuse)
    os.close(lock_run(tmp_path))  # there was no note yet
    with pytest.raises(InputError):
        lock_run(tmp_path)  # this process lives
    note = json.loads((tmp_path / LOCK).read_text())
    (tmp_path / LOCK).write_text(json.dumps({**note, "since": note["since"] - 5}))  # its number was another process's
    os.close(lock_run(tmp_path))
    (tmp_path / LOCK).write_text(json.dumps({**note, "host": "elsewhere"}))
    with pytest.raises(InputError, match="on elsewhere trains"):
        lock_run(tmp_path)
    (tmp_path / LOCK).write_text("half a no")
    os.close(lock_run(tmp_path))


def test_two_starts_at_once_are_one_run(tmp_path):
    starts = [
        subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    limit = time.monotonic() + 60
    while sum(start.poll() is not None for start in starts) < 2:
        assert time.monotonic() < limit
        time.sleep(0.05)
    left = [start for start in starts if start.poll() is None]
    assert len(left) == 1
    for start in starts:
        start.kill()
        start.communicate()


def test_a_folder_that_cannot_be_locked(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"expected a file in a writable folder\. Choose another --out\.$"):
        lock_run(tmp_path / "file" / "run")


def test_a_full_disk_is_one_line_and_leaves_no_lock(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(InputError) as caught:
            lock_run(tmp_path)
    assert str(caught.value) == (
        f"output {tmp_path}: got No space left on device; expected a file in a writable folder. Choose another --out."
    )
    os.close(lock_run(tmp_path))
