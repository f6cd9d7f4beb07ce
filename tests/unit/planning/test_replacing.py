"""Plans of another workload or dataset are not replaced unasked, and what is dropped is kept as a copy."""

from pathlib import Path

import pytest

from compass.config_files import load_config
from compass.errors import InputError
from compass.planning.replacing import check_replaced, keep_dropped
from compass.planning.request import Request
from compass.profile import read_profile, write_profile


@pytest.fixture
def earlier(profile, tmp_path):
    """A profile in a file, of the dataset /data/pdbbind."""
    config = load_config(None, ["dataset.path=/data/pdbbind"])
    found = profile.model_copy(update={"config": config})
    write_profile(found, tmp_path / "p.json")
    return found


def request_of(folder, *changes, **fields):
    return Request(config=load_config(None, changes), out=folder / "p.json", **fields)


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ((), {}),  # a stand-in, by a hint that forgot the dataset
        (("dataset.path=/data/other",), {}),
        (("dataset.path=/data/pdbbind",), {"workload": "schnet"}),
        (("dataset.path=/data/pdbbind",), {"workload": "visnet.py:Model"}),
    ],
)
def test_plans_of_another_workload_or_dataset_stay(earlier, tmp_path, changes, fields):
    with pytest.raises(InputError) as caught:
        check_replaced(request_of(tmp_path, *changes, **fields), earlier)
    assert str(caught.value) == (
        f"output {tmp_path / 'p.json'}: got the plans of workload visnet on /data/pdbbind; expected plans of the same workload "
        "and dataset, or a new file. Choose another --out, or replace it with --force, which keeps a copy."
    )
    check_replaced(request_of(tmp_path, *changes, force=True, **fields), earlier)


def test_the_same_dataset_and_a_stand_in_may_be_replaced(earlier, profile, tmp_path):
    check_replaced(request_of(tmp_path, "dataset.path=/data/pdbbind", memory_limit_bytes=2**33), earlier)
    check_replaced(request_of(tmp_path, "dataset.path=/data/pdbbind"), profile)
    check_replaced(request_of(tmp_path), None)
    check_replaced(request_of(tmp_path), earlier.model_copy(update={"plans": {}, "failures": {}}))


def test_a_workload_file_is_the_same_by_a_relative_path(earlier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = earlier.model_copy(update={"workload": "my_model.py:Model"})
    check_replaced(request_of(tmp_path, "dataset.path=/data/pdbbind", workload="my_model.py:Model"), own)


def test_dropped_plans_are_kept_as_a_copy_with_the_reasons(earlier, tmp_path, caplog):
    smaller = earlier.hardware.model_copy(update={"limit_bytes": 2**31})
    now = earlier.model_copy(update={"dataset_size": 300, "hardware": smaller, "plans": {}, "failures": {}})
    keep_dropped(request_of(tmp_path, stages=("validation",)), earlier, now)
    assert read_profile(Path(tmp_path / "p.json.bak")) == earlier
    assert caplog.messages[-1] == (
        f"{tmp_path / 'p.json'}: dropping earlier plans (smoke_test, prototyping): dataset size 19000, now 300; "
        "memory limit 4.00 GiB, now 2.00 GiB"
    )


def test_nothing_is_copied_where_nothing_is_lost(earlier, tmp_path):
    keep_dropped(request_of(tmp_path, stages=("validation",)), earlier, earlier)
    keep_dropped(request_of(tmp_path), None, earlier)
    assert not (tmp_path / "p.json.bak").exists()


def test_a_run_may_be_interrupted_before_all_is_planned_anew(earlier, tmp_path, caplog):
    keep_dropped(request_of(tmp_path), earlier, earlier.model_copy(update={"dataset_size": 300}))
    assert read_profile(tmp_path / "p.json.bak") == earlier
    assert not any("dropping" in message for message in caplog.messages)


def test_a_damaged_profile_is_kept_as_a_copy_and_nothing_of_it_goes_on(profile, tmp_path, caplog):
    """Else the new file's checksum would call the changed figure whole."""
    path = tmp_path / "p.json"
    write_profile(profile, path)
    path.write_text(path.read_text().replace('"batch_size": 32', '"batch_size": 33', 1))
    damaged = read_profile(path)
    blank = profile.model_copy(update={"plans": {}, "failures": {}})
    keep_dropped(request_of(tmp_path, stages=("validation",)), damaged, blank)
    assert (tmp_path / "p.json.bak").read_bytes() == path.read_bytes()
    assert caplog.messages[-1] == (
        f"{path}: dropping earlier plans (smoke_test, prototyping): its checksum is not that of its content"
    )
    assert blank.with_earlier(damaged).plans == {}
    assert blank.with_earlier(profile).plans == profile.plans
    with pytest.raises(InputError) as caught:
        write_profile(damaged, tmp_path / "other.json")
    assert str(caught.value) == (
        f"profile {path}: got one that was changed after Compass wrote it, or is damaged; expected one as it was written. "
        f"Run `{damaged.again()}`; it starts from the measurements in the ledger."
    )
    assert not (tmp_path / "other.json").exists()


def test_a_copy_that_cannot_be_written_is_named(earlier, tmp_path):
    (tmp_path / "p.json.bak").mkdir()
    with pytest.raises(InputError, match=r"p\.json\.bak: got Is a directory; expected a file in a writable folder"):
        keep_dropped(request_of(tmp_path), earlier, earlier.model_copy(update={"dataset_size": 300}))
