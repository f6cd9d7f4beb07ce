import os
import shutil
import time
from types import SimpleNamespace

import pytest

from compass.doctor import places
from compass.doctor.checks import CheckResult
from compass.doctor.places import check_dataset, check_profile, check_writable
from compass.optimizer_config import DatasetRules
from compass.profile import SCHEMA_VERSION, read_profile, write_profile

MIB, GIB = 1024**2, 1024**3
FIX = "Name another folder with --cache."

# ------------------------------------------------------------------------------------------------------------- folders


@pytest.fixture
def disk(monkeypatch):
    """Sets the free bytes of every disk."""

    def set_free(n_bytes):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=n_bytes))

    return set_free


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (5 * GIB, ("ok", "5.00 GiB free in {}", "")),
        (1 * GIB, ("warn", "1.00 GiB free in {}; 20,000 complexes take about 2.00 GiB", FIX)),
        (50 * MIB, ("fail", "50.00 MiB free in {}", f"Delete something there. {FIX}")),
    ],
)
@pytest.mark.parametrize("below", ["", "not/yet/there"])
def test_free_space(tmp_path, disk, free, expected, below):
    level, says, remedy = expected
    disk(free)
    folder = tmp_path / below
    assert check_writable("cache", folder, FIX) == CheckResult("cache", level, says.format(folder), remedy)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert check_writable("cache", file / "below", FIX) == CheckResult(
        "cache", "fail", f"{file / 'below'} cannot be written: Not a directory", FIX
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    assert check_writable("folder", tmp_path, FIX) == CheckResult(
        "folder", "fail", f"{tmp_path} cannot be written: Permission denied", FIX
    )


# ------------------------------------------------------------------------------------------------------------- dataset


@pytest.fixture
def dataset(tmp_path):
    """A folder of two complexes, with their index if asked for."""

    def make(*, index=True, ligands=("1abc", "2abc")):
        for code in ("1abc", "2abc"):
            folder = tmp_path / code
            folder.mkdir()
            (folder / f"{code}_protein.pdb").write_text("")
            if code in ligands:
                (folder / f"{code}_ligand.sdf").write_text("")
        if index:
            (tmp_path / "INDEX_data").write_text("1abc  1.80  2004   7.00  Kd=100nM // 1abc.pdf (TQD)\n")
        return tmp_path

    return make


def test_a_dataset(dataset):
    root = dataset()
    assert check_dataset(root, DatasetRules()) == CheckResult(
        "dataset", "ok", f"{root} lists 2 complexes, 1 with a label"
    )


def test_a_dataset_without_labels(dataset):
    root = dataset(index=False)
    assert check_dataset(root, DatasetRules()) == CheckResult(
        "dataset",
        "warn",
        f"{root} lists 2 complexes, none with a label",
        "Labels are needed for training: name the index with --index, or fill the manifest's column `label`.",
    )


def test_a_dataset_with_faults(dataset):
    root = dataset(ligands=("1abc",))
    assert check_dataset(root, DatasetRules()) == CheckResult(
        "dataset",
        "warn",
        f"{root} lists 2 complexes, 1 with a label; 1 lack a file",
        f"`compass scan {root}` reports each of them.",
    )


def test_a_dataset_with_nothing_usable(dataset):
    root = dataset(ligands=())
    assert check_dataset(root, DatasetRules()) == CheckResult(
        "dataset",
        "fail",
        f"{root} lists 2 complexes, none with both of its files",
        f"`compass scan {root}` reports each of them.",
    )


def test_no_dataset(tmp_path):
    absent = tmp_path / "absent"
    assert check_dataset(absent, DatasetRules()) == CheckResult(
        "dataset",
        "fail",
        f"dataset {absent}: no such folder or file; expected a folder, or a manifest that ends in .csv or .parquet",
        "Check the path.",
    )


def test_a_file_of_a_manifest_that_is_not_there(tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.write_text("id,protein,ligand,label\na,a.pdb,a.sdf,7\n")
    assert check_dataset(manifest, DatasetRules()) == CheckResult(
        "dataset",
        "fail",
        f"{manifest} lists 1 complexes, but a.pdb cannot be read: No such file or directory",
        "Check its permissions.",
    )


def test_a_large_dataset_is_left_to_the_scan(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "list_source", lambda *_: time.sleep(60))
    assert check_dataset(tmp_path, DatasetRules(), limit_s=0.1) == CheckResult(
        "dataset", "ok", f"{tmp_path} can be read; `compass scan` counts it, which takes over 0.1 s"
    )


# ------------------------------------------------------------------------------------------------------------- profile


@pytest.fixture
def written(profile, tmp_path):
    """A profile on disk, and what holds on its machine."""
    path = tmp_path / "hardware_profile.json"
    write_profile(profile, path)
    mark = read_profile(path).fingerprint
    return path, {"device": (mark.device, "cuda: Another"), "torch": (mark.torch,)}


def test_no_profile(tmp_path):
    path = tmp_path / "p.json"
    assert check_profile(path, {}) == CheckResult("profile", "ok", f"no {path} yet", "`compass optimize` writes it.")


def test_a_profile_that_is_named_should_be_there(tmp_path):
    path = tmp_path / "p.json"
    fails = CheckResult("profile", "fail", f"there is no {path}", "Correct its name, or leave it out.")
    assert check_profile(path, {}, named=True) == fails


def test_a_profile_of_this_machine(written):
    path, here = written
    assert check_profile(path, here) == CheckResult("profile", "ok", f"{path} has plans for smoke_test, prototyping")


def test_a_profile_of_another_machine(written):
    path, here = written
    (then, _), (torch,) = here["device"], here["torch"]
    there = {"device": ("cpu: B", "cuda: C"), "torch": ("9.9",), "not in the fingerprint": ("x",)}
    assert check_profile(path, there) == CheckResult(
        "profile",
        "warn",
        f"{path} has plans for smoke_test, prototyping, measured on something else: "
        f"device {then}, here cpu: B or cuda: C; torch {torch}, here 9.9",
        "`compass verify` checks whether they hold here.",
    )


def test_a_file_that_is_no_profile(tmp_path):
    path = tmp_path / "p.json"
    path.write_text("{")
    assert check_profile(path, {}) == CheckResult(
        "profile",
        "warn",
        f"profile {path}: text that is not JSON; expected a hardware_profile.json",
        "Run `compass optimize` to write it anew.",
    )


def test_a_profile_of_a_newer_compass(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"schema_version": 99}')
    assert check_profile(path, {}) == CheckResult(
        "profile",
        "fail",
        f"profile {path}: schema version 99; expected at most {SCHEMA_VERSION}",
        "Upgrade Compass, or write the profile anew.",
    )
