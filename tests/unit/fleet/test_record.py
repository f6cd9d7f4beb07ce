import pytest

from compass.errors import InputError
from compass.fleet.record import FleetRecord, KindRecord, read_fleet, write_fleet
from compass.profile import write_profile


@pytest.fixture
def folder(tmp_path, profile):
    write_profile(profile, tmp_path / "a.json")
    kinds = (KindRecord(name="a", device="A", nodes=("n",), profile="a.json"),)
    write_fleet(FleetRecord(compass_version="1", created="now", engine="local", kinds=kinds), tmp_path)
    return tmp_path


def test_a_fleet_is_read_back(folder, profile):
    record, profiles = read_fleet(folder)
    assert (record.kinds[0].name, profiles["a"].plans) == ("a", profile.plans)


def test_a_folder_without_a_fleet(tmp_path):
    with pytest.raises(InputError) as caught:
        read_fleet(tmp_path)
    assert str(caught.value) == (
        f"fleet {tmp_path / 'fleet.json'}: got No such file or directory; expected fleet.json. "
        "Run `compass fleet optimize` to write it."
    )


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"local"', '"cloud"', ": got text that cannot be used: its checksum is not that of its content; expected what Compass wrote."),
        ("{", "", ": got text that cannot be used:"),
    ],
)  # fmt: skip
def test_a_damaged_one_is_refused(folder, before, after, message):
    path = folder / "fleet.json"
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(InputError) as caught:
        read_fleet(folder)
    assert str(caught.value).startswith(f"fleet {path}{message}")


def test_one_of_another_format_is_refused(folder):
    path = folder / "fleet.json"
    path.write_text('{"kinds": []}')
    with pytest.raises(InputError) as caught:
        read_fleet(folder)
    assert str(caught.value) == (
        f"fleet {path}, compass_version: got nothing; expected a value. Run `compass fleet optimize` to write it."
    )


def test_a_profile_outside_the_folder_is_not_read(folder):
    record, _ = read_fleet(folder)
    outside = record.kinds[0].model_copy(update={"profile": "/etc/passwd"})
    write_fleet(record.model_copy(update={"kinds": (outside,)}), folder)
    with pytest.raises(InputError, match=f"profile {folder}/passwd"):
        read_fleet(folder)
