"""Files outside the dataset's folder are named."""

import pytest

from compass.data.scan.listing import Listed, Listing
from compass.data.scan.outside import outside_warning
from compass.data.scan.rows import Row


@pytest.fixture
def dataset(tmp_path):
    """A folder with a file, a link to it, and links to a file and a folder outside."""
    root, far = tmp_path / "data", tmp_path / "data2"
    for place in (root, far):
        place.mkdir()
        (place / "p.pdb").touch()
    (root / "inner").symlink_to("p.pdb")
    (root / "link").symlink_to(far / "p.pdb")
    (root / "folder").symlink_to(far)
    return root


def listing(root, *names):
    return Listing(
        root, tuple(Listed(Row(id=f"c{n}", status="ok"), (name,), ("l.sdf",)) for n, name in enumerate(names))
    )


def test_files_inside(dataset, monkeypatch):
    assert outside_warning(listing(dataset, "p.pdb", "inner", "deep/../p.pdb", str(dataset / "p.pdb"))) is None
    monkeypatch.chdir(dataset)
    assert outside_warning(listing(dataset.relative_to(dataset), "p.pdb")) is None


@pytest.mark.parametrize("name", ["../data2/p.pdb", "link", "folder/p.pdb", "/etc/passwd", "a/../../x"])
def test_files_outside(dataset, name):
    assert outside_warning(listing(dataset, "p.pdb", name)) == (
        f"1 complex has files outside {dataset}, for example c1: {name}. They are read"
    )


def test_they_are_counted(dataset):
    assert outside_warning(listing(dataset, "link", "link")) == (
        f"2 complexes have files outside {dataset}, for example c0: link. They are read"
    )


def test_a_link_to_the_folder_itself_leaves_nothing(dataset, tmp_path):
    (tmp_path / "alias").symlink_to(dataset)
    assert outside_warning(listing(tmp_path / "alias", "p.pdb")) is None
