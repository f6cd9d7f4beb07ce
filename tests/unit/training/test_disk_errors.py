import errno
import os
import sys
import threading
from pathlib import Path

import pytest

from compass.errors import InputError
from compass.training.disk_errors import one_line_for_disk_errors

RUN = Path("runs/prototyping")


@pytest.fixture(autouse=True)
def _same_hook(monkeypatch):
    """The hook for the last writes is not taken back: the process ends."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_is_one_line(number):
    with pytest.raises(InputError) as caught, one_line_for_disk_errors(RUN):
        raise OSError(number, os.strerror(number), "runs/prototyping/checkpoints/.best.ckpt.0")
    assert str(caught.value) == (
        f"run folder runs/prototyping: got {os.strerror(number)}; expected room for the run's files, and the right to write them. "
        "Make room. No checkpoint was written yet. Begin anew with `compass train --out runs/prototyping --restart`."
    )


def test_an_error_that_a_library_raises_on_it_is_the_same():
    """As Lightning's logger does."""
    error = ValueError("you tried to log 0.05 which is currently not supported")
    error.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(InputError, match="got No space left on device"), one_line_for_disk_errors(RUN):
        raise error


def test_other_errors_stay_what_they_are():
    with pytest.raises(FileNotFoundError), one_line_for_disk_errors(RUN):
        Path("no such file").read_text()


def test_a_logger_that_cannot_write_in_its_thread_is_a_warning(caplog):
    def write():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with one_line_for_disk_errors(RUN):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert "a logger can no longer write its curves: No space left on device" in caplog.text
