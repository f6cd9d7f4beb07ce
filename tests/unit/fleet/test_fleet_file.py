from datetime import date

import pytest

from compass.errors import InputError
from compass.fleet.fleet_file import FleetFile, read_fleet_file

GOOD = """
kinds:
  a100: {device: "NVIDIA A100*", price_per_hour: 3.2, power_w: 400}
  t4: {node: "cloud-*", partition: gpu-t4}
currency: EUR
priced_on: 2026-11-30
workload: runtime_env
wait_s: 30
"""


def test_a_fleet_file(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text(GOOD)
    file = read_fleet_file(path)
    assert file.kinds["a100"].price_per_hour == 3.2
    assert file.kinds["t4"].partition == "gpu-t4"
    assert (file.currency, file.priced_on, file.wait_s) == ("EUR", date(2026, 11, 30), 30)
    assert (file.workload, file.dataset) == ("runtime_env", "path")


def test_every_entry_has_a_default(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text("")
    assert read_fleet_file(path) == read_fleet_file(None) == FleetFile()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kinds: {a: {price: 3}}", "FILE, kinds.a.price: got 3; expected no such field. See docs/fleet.md for every entry."),
        ("kinds: {a: {price_per_hour: '3'}}", "FILE, kinds.a.price_per_hour: got '3'; expected a number. See docs/fleet.md for every entry."),
        ("kinds: {a: {price_per_hour: -1}}", "FILE, kinds.a.price_per_hour: got -1; expected at least 0. See docs/fleet.md for every entry."),
        ("kinds: {a: {power_w: .inf}}", "FILE, kinds.a.power_w: got inf; expected a finite number. See docs/fleet.md for every entry."),
        ("kinds: {../a: {}}", "FILE, kinds: got {'../a': {}}; expected names of letters, digits, '.', '_' and '-'. See docs/fleet.md for every entry."),
        ("wait_s: 0", "FILE, wait_s: got 0; expected more than 0. See docs/fleet.md for every entry."),
        ("workload: rsync", "FILE, workload: got 'rsync'; expected 'path' or 'runtime_env'. See docs/fleet.md for every entry."),
        ("- a", "FILE: got ['a']; expected a group of values. See docs/fleet.md for every entry."),
        ("a: [", "FILE: got while parsing a flow node expected the node content, but found '<stream end>' in \"<unicode string>\", line 1, column 5: a: [ ^; expected valid YAML. Correct the file."),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(tmp_path, text, message):
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_fleet_file(path)
    assert str(caught.value) == message.replace("FILE", f"fleet file {path}")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError) as caught:
        read_fleet_file(tmp_path / "none.yaml")
    assert str(caught.value) == (
        f"fleet file {tmp_path / 'none.yaml'}: got No such file or directory; expected a YAML file. See docs/fleet.md for an example."
    )
