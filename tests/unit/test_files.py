import contextlib
import errno
import os
import resource
from pathlib import Path

import pytest

from compass import files
from compass.errors import InputError
from compass.files import append_whole, failed_by_machine, is_special, replacing, spreadsheet_cell, sweep, write_text


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with replacing(path) as file:
        file.write(b"after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_read_it_is_the_umasks_decision(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_text("text", tmp_path / "a.txt")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


def test_what_killed_processes_left_is_swept(tmp_path):
    for name in (".a.txt.12345678", ".b-3.ckpt.12345678", "a.txt", ".other"):
        (tmp_path / name).touch()
    assert sorted(path.name for path in sweep(tmp_path, ["a.txt", "b-*.ckpt"])) == [
        ".a.txt.12345678",
        ".b-3.ckpt.12345678",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other", "a.txt"]


def test_an_interrupted_write_leaves_the_former_content(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with contextlib.suppress(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_file_is_named_after_the_file(tmp_path):
    with replacing(tmp_path / "a.graphs", suffix=".part"):
        [temporary] = tmp_path.iterdir()
        assert temporary.name.startswith(".a.graphs.")
        assert temporary.suffix == ".part"


def test_a_folder_that_is_missing_names_the_option(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt: got No such file or directory; .* Choose another --csv\."):
        write_text("text", tmp_path / "none" / "a.txt", option="--csv")


def test_what_a_killed_process_left_is_deleted_by_the_next_one_that_writes_the_file(tmp_path):
    """But not a file that a living process writes, nor one of the user's with a similar name."""
    path, abandoned, of_an_editor = tmp_path / "p.json", tmp_path / ".p.json.0123abcd", tmp_path / ".p.json.swp"
    abandoned.write_text("half a prof")
    of_an_editor.write_text("")
    with replacing(path) as first:
        assert not abandoned.exists()
        first.write(b"first")
        write_text("second", path)
    assert path.read_text() == "first"  # it ended last
    assert sorted(tmp_path.iterdir()) == [of_an_editor, path]


def test_a_file_that_was_swept_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    path, lock, swept = tmp_path / "p.json", files._lock, []

    def sweep_first(handle, *, wait):
        if wait and not swept:
            (found,) = tmp_path.iterdir()
            found.unlink()
            swept.append(found)
        return lock(handle, wait=wait)

    monkeypatch.setattr(files, "_lock", sweep_first)
    write_text("whole", path)
    assert path.read_text() == "whole"
    assert len(swept) == 1


# ------------------------------------------------------------------------------------------------ links, devices, full disks


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_is_written_through(tmp_path, is_there):
    target, link = tmp_path / "far" / "a.txt", tmp_path / "link"
    target.parent.mkdir()
    if is_there:
        target.write_text("before")
    (tmp_path / "hop").symlink_to(target)
    link.symlink_to("hop")
    write_text("after", link)
    assert link.is_symlink()
    assert target.read_text() == "after"
    assert list(target.parent.iterdir()) == [target]


def test_links_in_a_circle_are_refused(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.symlink_to(b)
    b.symlink_to(a)
    with pytest.raises(InputError, match=r"a: got Too many levels of symbolic links; .* Choose another --out\."):
        write_text("text", a)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_device_is_written_to_and_stays(tmp_path):
    assert is_special(Path(os.devnull))
    write_text("text", Path(os.devnull))
    assert is_special(Path(os.devnull))
    with pytest.raises(InputError, match=r"output /dev/full: got No space left on device;"):
        write_text("text", Path("/dev/full"))
    assert is_special(Path("/dev/full"))
    assert not is_special(tmp_path)
    assert is_special(Path("/dev/stdout"))


def test_a_pipe_is_written_to(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_text("text", path)
    assert os.read(reader, 9) == b"text"
    os.close(reader)


def test_bytes_of_a_path_that_are_no_text_are_escaped(tmp_path):
    write_text("a\udcffb", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == r"a\udcffb"


@contextlib.contextmanager
def files_of_at_most(n_bytes):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_does_not_fit_leaves_the_former_content_and_names_the_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with files_of_at_most(8), pytest.raises(OSError, match="File too large") as caught, replacing(path) as file:
        file.write(b"more than eight bytes")
    assert caught.value.filename == str(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "a.txt"):
        (tmp_path / "other").read_text()
    assert caught.value.filename == str(tmp_path / "other")


def test_what_is_appended_is_appended_whole(tmp_path):
    path = tmp_path / "a.csv"
    append_whole(b"1,2\n", path)
    with files_of_at_most(8), pytest.raises(OSError, match=r"No space left on device|File too large"):
        append_whole(b"3,4,5,6\n", path)
    append_whole(b"7,8\n", path)
    assert path.read_bytes() == b"1,2\n7,8\n"


@pytest.mark.parametrize(
    ("number", "rest"),
    [
        (errno.ENOSPC, "got No space left on device; expected room for a file. Make room, or choose a folder on another disk."),
        (errno.EDQUOT, "got Disk quota exceeded; expected room for a file. Make room, or choose a folder on another disk."),
        (errno.EROFS, "got Read-only file system; expected a place that may be written. Choose another place."),
        (errno.EMFILE, "got Too many open files; expected a free file descriptor. Raise `ulimit -n`, or use fewer processes."),
        (errno.EFBIG, "got File too large; expected a limit that leaves room for the file. Raise `ulimit -f`."),
        (errno.EIO, "got Input/output error; expected a disk that answers. Check the disk, or choose another one."),
        (errno.ELOOP, "got Too many levels of symbolic links; expected a path that leads to a file. Choose another path."),
    ],
)  # fmt: skip
def test_errors_of_the_machine_in_a_sentence(number, rest):
    assert str(failed_by_machine(OSError(number, os.strerror(number), "x/y"))) == f"x/y: {rest}"
    assert str(failed_by_machine(OSError(number, os.strerror(number)))) == f"a file: {rest}"


def test_without_a_temporary_folder():
    error = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert str(failed_by_machine(error)) == (
        "temporary folder: got none that can be written; expected one. Set TMPDIR to a folder with room."
    )


def test_other_errors_are_bugs():
    assert failed_by_machine(OSError(errno.EBADF, "Bad file descriptor")) is None


@pytest.mark.parametrize(
    ("text", "cell"),
    [("1abc", "1abc"), ("=1+1", "'=1+1"), ("@x", "'@x"), ("-2", "'-2"), ("\t=1", "'\t=1"), (" +1", "' +1"), ("", "")],
)
def test_a_cell_is_never_a_formula(text, cell):
    assert spreadsheet_cell(text) == cell
