import contextlib

import pytest

from compass.errors import InputError
from compass.files import replacing, write_text


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with replacing(path) as file:
        file.write(b"after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


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
