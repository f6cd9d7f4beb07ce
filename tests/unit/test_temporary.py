"""Temporary files go with the process that made them, also if it is killed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from compass import temporary
from compass.errors import InputError
from compass.temporary import TemporaryFolder, own_temporary_folder


@pytest.fixture
def parent(monkeypatch):
    """The temporary folder of this process, of a short name: sockets need room for theirs."""
    path = Path(tempfile.mkdtemp())
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    yield path
    shutil.rmtree(path)


def test_files_go_with_the_folder(parent, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(parent))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with own_temporary_folder() as folder:
        left = Path(tempfile.mkstemp()[1])
        assert left.parent == folder == Path(os.environ["TMPDIR"])
        assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent == parent  # compiled kernels outlive a process
    assert list(parent.iterdir()) == []
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(parent)
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_sockets_of_multiprocessing_stay_until_the_end():
    """Its finalizers fail, with tracebacks, if they are gone."""
    parent = Path(tempfile.mkdtemp())  # of a short name, for a socket's path has 107 bytes at most
    code = (
        "from compass.temporary import own_temporary_folder\nfrom multiprocessing.connection import Listener\n"
        "with own_temporary_folder() as folder: kept = Listener(family='AF_UNIX')\n"
        "print(len(list(folder.glob('pymp-*/listener-*'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "TMPDIR": str(parent)}
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("1\n", "")
    parent.rmdir()  # nothing is left


def test_a_long_path_leaves_no_room_for_sockets_and_is_used_itself(parent, monkeypatch):
    long = parent / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with own_temporary_folder():
        assert tempfile.gettempdir() == str(long)
    assert list(long.iterdir()) == []


def test_removing_twice_does_no_harm(parent):
    folder = TemporaryFolder()
    folder.remove()
    folder.remove()
    assert list(parent.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_one(parent, monkeypatch):
    code = "import time; from compass.temporary import TemporaryFolder; f = TemporaryFolder(); print(f.path, flush=True); time.sleep(99)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(parent)}
    )
    left = Path(process.stdout.readline().strip())
    monkeypatch.setattr(temporary, "_YOUNG_S", 0.0)
    TemporaryFolder().remove()
    assert left.is_dir()  # its process lives
    process.send_signal(signal.SIGKILL)
    process.communicate()
    monkeypatch.setattr(temporary, "_YOUNG_S", 3600.0)
    TemporaryFolder().remove()
    assert left.is_dir()  # it may just be made
    os.utime(left / "in_use", (time.time() - 4000,) * 2)
    (parent / "compass-other").mkdir()
    TemporaryFolder().remove()
    assert [path.name for path in parent.iterdir()] == ["compass-other"]


def test_without_any_temporary_folder(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(InputError) as caught:
        TemporaryFolder()
    assert str(caught.value) == (
        "temporary folder: got No such file or directory; expected a folder that can be written. "
        "Set TMPDIR to one, or make room."
    )
