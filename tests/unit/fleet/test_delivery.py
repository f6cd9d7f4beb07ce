from pathlib import Path

import pytest

from compass.errors import InputError
from compass.fleet.agent import local_path
from compass.fleet.delivery import delivering
from compass.fleet.fleet_file import FleetFile
from compass.optimizer_config import DatasetRules, OptimizerConfig
from compass.planning.request import Request

ALL = FleetFile(workload="runtime_env", dataset="runtime_env")


class Sending:
    """An engine that notes what it is given."""

    sends_files = True
    sent: Path

    def send(self, folder):
        self.sent = folder
        self.files = sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


@pytest.fixture
def request_(tmp_path):
    (tmp_path / "code").mkdir()
    for name in ("mine.py", "beside.py", "notes.txt"):
        (tmp_path / "code" / name).write_text(name)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.pdb").write_text("x")
    config = OptimizerConfig(dataset=DatasetRules(path=str(tmp_path / "data")))
    return Request(config=config, workload=f"{tmp_path / 'code' / 'mine.py'}:Mine")


def test_workload_and_dataset_are_sent(request_, tmp_path):
    engine = Sending()
    with delivering(request_, ALL, engine) as delivered:
        assert engine.files == ["dataset/data/a.pdb", "workload/beside.py", "workload/mine.py"]
        assert delivered == {
            str(tmp_path / "code" / "mine.py"): "delivered://workload/mine.py",
            str(tmp_path / "data"): "delivered://dataset/data",
        }
    assert not engine.sent.exists()  # the copy here ends with the run


@pytest.mark.parametrize("file", [FleetFile(), FleetFile(workload="path", dataset="path")])
def test_nothing_is_sent_by_default(request_, file):
    with delivering(request_, file, Sending()) as delivered:
        assert delivered == {}


def test_too_much_is_not_sent(request_, monkeypatch):
    monkeypatch.setattr("compass.fleet.delivery.MOST_SENT_BYTES", 10)
    with pytest.raises(InputError) as caught, delivering(request_, ALL, Sending()):
        pass
    assert str(caught.value) == (
        "fleet file, dataset: runtime_env: got 17 B of workload and dataset; expected at most 10 B. "
        "Put the dataset on shared storage and write `dataset: path`."
    )


def test_a_path_on_the_node(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert local_path("delivered://dataset/data") == str(tmp_path / "dataset" / "data")
    assert local_path("/shared/data") == "/shared/data"
