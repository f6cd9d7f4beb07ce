"""A model is built on one thread, whatever training runs on."""

import sys
import tempfile
from types import ModuleType, SimpleNamespace

import pytest
import torch

from compass.records import Knobs
from compass.workloads.building import build


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_thread_builds_and_the_others_come_back():
    workload = SimpleNamespace(build=lambda knobs: (knobs.layers, torch.get_num_threads()))
    assert build(workload, Knobs(layers=3, channels=8)) == (3, 1)
    assert torch.get_num_threads() == 2


def test_the_others_come_back_after_a_failure():
    def fails(knobs):
        raise ValueError(knobs.layers)

    with pytest.raises(ValueError, match="3"):
        build(SimpleNamespace(build=fails), Knobs(layers=3, channels=8))
    assert torch.get_num_threads() == 2


def test_generated_modules_leave_no_files(tmp_path, monkeypatch):
    """PyTorch Geometric writes its generated modules among the temporary files; other files there stay."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    generated, other = tmp_path / "made_propagate_x1.py", tmp_path / "other.py"
    for file, name in ((generated, "made_propagate"), (other, "unrelated")):
        file.write_text("")
        module = ModuleType(name)
        module.__file__ = str(file)
        monkeypatch.setitem(sys.modules, name, module)
    build(SimpleNamespace(build=lambda knobs: knobs), Knobs(layers=3, channels=8))
    assert list(tmp_path.iterdir()) == [other]
