import contextlib
import os

import pytest

from compass import files
from compass.errors import InputError
from compass.files import replacing, sweep, write_text


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
