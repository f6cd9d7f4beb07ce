"""Files that are written whole: a reader finds the former content or the new one, never a part of it. Files that are read.

One rule holds for every output: a symbolic link is written through, to the file that it leads to, also if that is not there yet;
links in a circle are refused. A device or a pipe, such as /dev/stdout, is written to directly. Who may read a new file is the umask's
decision.
"""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO, TextIO

from compass.errors import InputError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, where abandoned files stay
    fcntl = None  # type: ignore[assignment]

MODEL_SUFFIX = ".model.pkl"
"""End of the name of a file that holds a model of the user's; see `compass.workloads.model_file`."""
_MIB = 1 << 20
_MOST_RECORD_BYTES = 16 * _MIB
"""Of a file of JSON that Compass wrote; profiles of all stages have 0.2 MiB."""
_MOST_RECORD_VALUES = 200_000
"""In such a file; those profiles have some 5,000. A value that cannot be used takes kilobytes until it is refused."""
MOST_TABLE_BYTES = 256 * _MIB
"""Of a table or list of complexes."""
_OF_THE_MACHINE = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT), ("room for a file", "Make room, or choose a folder on another disk.")
    ),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), ("a place that may be written", "Choose another place.")),
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE), ("a free file descriptor", "Raise `ulimit -n`, or use fewer processes.")
    ),
    errno.EFBIG: ("a limit that leaves room for the file", "Raise `ulimit -f`."),
    **dict.fromkeys((errno.EIO, errno.ESTALE), ("a disk that answers", "Check the disk, or choose another one.")),
    **dict.fromkeys((errno.ELOOP, errno.ENAMETOOLONG), ("a path that leads to a file", "Choose another path.")),
}
"""Errors whose reason is the machine, not Compass: what was expected, and what to do."""
_NO_TEMPORARY = "No usable temporary directory"
"""The words of `tempfile`, in an error of no number of its own."""
_OPEN_FILE = re.compile(r"/dev/(?:stdout|stderr|fd/\d+)|/proc/[^/]+/fd/\d+")


def open_file(path: Path) -> BufferedReader:
    """The file at `path`, open for reading. Only a regular file is opened: a pipe would wait for ever, a device would never end.

    Raises:
        OSError: there is none, it cannot be opened, or it is something else.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:
        raise OSError(errno.EINVAL, "a name that no file can have", str(path)) from error
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return BufferedReader(FileIO(handle))
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "a pipe or a device, not a file", str(path))


def read_file(path: Path, most_bytes: int | None = None) -> bytes:
    """The content of the file at `path`.

    Raises:
        OSError: as `open_file`, or it has more than `most_bytes`.
    """
    with open_file(path) as file:
        if most_bytes is None:
            return file.read()
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"a file of more than {most_bytes >> 10:,} KiB", str(path))
    return content


def read_record(path: Path) -> bytes:
    """The content of a file of JSON that Compass wrote.

    Raises:
        OSError: as `open_file`, or it is larger than any such file.
    """
    content = read_file(path, _MOST_RECORD_BYTES)
    if content.count(b",") > _MOST_RECORD_VALUES:
        raise OSError(errno.EFBIG, f"a file of more than {_MOST_RECORD_VALUES:,} values", str(path))
    return content


@contextmanager
def replacing(path: Path, *, suffix: str = "", durable: bool = True) -> Iterator[BinaryIO]:
    """A temporary file beside `path`, which takes the place of `path` when the block ends without an exception.

    Its name starts with `.NAME.` and ends with `suffix`. A process that is killed in the block leaves it behind; the next one that
    writes `path` deletes it, where the file system has locks. With `durable`, the content is on disk before. An error while writing
    names the file.

    Raises:
        OSError: the folder cannot be written to.
    """
    with _naming(path):
        if is_special(path):
            with path.open("ab") as file:
                yield file
            return
        target = target_of(path)
        _sweep_abandoned(target, suffix)
        temporary, handle = _temporary(target, suffix)
        try:
            with os.fdopen(handle, "w+b") as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                if fcntl is not None:
                    temporary.replace(target)  # while it is locked
            if fcntl is None:
                temporary.replace(target)  # Windows renames closed files only
        finally:
            temporary.unlink(missing_ok=True)


def target_of(path: Path) -> Path:
    """The file that is written if `path` is: that at the end of its symbolic links.

    Raises:
        OSError: its links lead in a circle.
    """
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return target


def is_special(path: Path) -> bool:
    """Whether `path` is a device, a pipe, or a name for an open file, such as /dev/stdout: it is written to, never replaced."""
    if _OPEN_FILE.fullmatch(str(path)):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def append_whole(content: bytes, path: Path) -> None:
    """Append `content` to the file at `path`; if that fails, the file stays as it was.

    Raises:
        OSError: it cannot be appended.
    """
    with _naming(path), path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            if file.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - a short write has no errno of its own
        except OSError:
            file.truncate(end)
            raise


def _temporary(path: Path, suffix: str) -> tuple[Path, int]:
    """A new file beside `path`, open and locked, so that no process takes it for an abandoned one."""
    while True:
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}{suffix}"
        mode = 0o666  # who may read it is the umask's decision
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        if not _lock(handle, wait=True) or os.fstat(handle).st_nlink:
            return temporary, handle
        os.close(handle)  # another process swept it before it was locked


def _sweep_abandoned(path: Path, suffix: str) -> None:
    """Delete temporary files of `path` that no living process writes."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}{re.escape(suffix)}")
    with suppress(OSError):
        for other in path.parent.iterdir():
            if name.fullmatch(other.name):
                handle = os.open(other, os.O_RDWR)
                try:
                    if _lock(handle, wait=False):
                        other.unlink(missing_ok=True)
                finally:
                    os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool:
    """Lock an open file until it is closed; False if another process has locked it, or where there are no locks."""
    if fcntl is None:  # pragma: no cover
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sweep(folder: Path, names: Iterable[str]) -> list[Path]:
    """Delete what killed processes left of files with these names in `folder`, and return the deleted files.

    Only for a folder that no other process writes to.
    """
    found = [path for name in names for path in folder.glob(f".{name}.*") if path.is_file()]
    for path in found:
        path.unlink(missing_ok=True)
    return found


@contextmanager
def writing_text(path: Path, *, option: str = "--out") -> Iterator[TextIO]:
    """A text file, UTF-8, that takes the place of `path` as in `replacing`; `option` is the flag that named it.

    Bytes of a path that are no UTF-8 are written as escapes.

    Raises:
        InputError: the folder cannot be written to.
    """
    try:
        with replacing(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
            yield text
            text.detach()
    except OSError as error:
        raise unwritable(path, error, option) from error


def write_text(text: str, path: Path, *, option: str = "--out") -> None:
    """Write `text` to `path`, whole, as UTF-8; `option` is the flag that named the file.

    Raises:
        InputError: the folder cannot be written to.
    """
    with writing_text(path, option=option) as file:
        file.write(text)


def spreadsheet_cell(text: str) -> str:
    """`text` for a cell of a CSV table, with a quote before it if a spreadsheet would run it as a formula."""
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def first_of(folder: Path, names: Sequence[str]) -> Path | None:
    """The first file of these names that `folder` has."""
    return next((folder / name for name in names if (folder / name).exists()), None)


def unwritable(path: Path, error: OSError, option: str = "--out") -> InputError:
    """The error for an output, named by `option`, that cannot be written."""
    return InputError(
        f"output {path}",
        got=error.strerror or str(error),
        expected="a file in a writable folder",
        fix=f"Choose another {option}.",
    )


def failed_by_machine(error: OSError) -> InputError | None:
    """`error` in a sentence, if its reason is the machine: a full disk, missing rights, too many open files. None: a bug."""
    if str(error.strerror).startswith(_NO_TEMPORARY):
        where, got = "temporary folder", "none that can be written"
        return InputError(where, got=got, expected="one", fix="Set TMPDIR to a folder with room.")
    if error.errno not in _OF_THE_MACHINE:
        return None
    expected, fix = _OF_THE_MACHINE[error.errno]
    where = error.filename if isinstance(error.filename, str) else "a file"
    return InputError(where, got=error.strerror or str(error), expected=expected, fix=fix)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let errors of the block name `path`: those of a write name no file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
