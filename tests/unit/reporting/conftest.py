"""Profiles of machines that are physics, made once for all tests of the report."""

import json

import pytest

from compass.config_files import load_config
from compass.optimizer import Request, optimize
from compass.probe.simulation import SimulatedRunner, load_of, machine_named
from compass.profile import write_profile
from compass.records import DatasetSummary, SizeSummary
from compass.reporting.evidence import of_profile, read_evidence
from compass.reporting.run_evidence import read_run
from compass.reporting.run_view import run_view_of
from compass.reporting.view import view_of

PLAIN = [f"stages.{stage}.checkpointing=[false]" for stage in ("prototyping", "validation", "production")]


class Own(SimulatedRunner):
    """A simulated machine whose workload is the user's own, on images."""

    def describe(self, knobs=()):
        found = super().describe(knobs)
        return found.model_copy(update={"family": found.family.model_copy(update={"noun": "images"})})


def simulated(folder, machine, *changes, size=19_000, samples=None, limit=None, kind=SimulatedRunner):
    given = {"samples": samples} if samples else {}
    runner = kind(machine_named(machine), seed=1, memory_limit_bytes=limit, **given)
    asked = Request(config=load_config(None, [*PLAIN, *changes]), dataset_size=size, out=folder / f"{machine}.json")
    return optimize(asked, runner=runner)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """All four stages, on an A100."""
    return simulated(tmp_path_factory.mktemp("whole"), "A100")


@pytest.fixture(scope="session")
def tight(tmp_path_factory):
    """Large graphs on a small card, where memory and time rule models out, and prototyping finds nothing."""
    hopeless = ["stages.prototyping.target_s=0.001", "stages.prototyping.window_s=0"]
    return simulated(tmp_path_factory.mktemp("tight"), "RTX 3090", *hopeless, size=200_000,
                     samples=(("pocket", load_of(2_500, 70_000)),), limit=6 * 1024**3)  # fmt: skip


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """All four stages of a workload of the user's own."""
    return simulated(tmp_path_factory.mktemp("images"), "A100", kind=Own)


@pytest.fixture(scope="session")
def few_images(tmp_path_factory):
    """The same, on a small card with little data and no time, where models are ruled out for every reason."""
    hopeless = ["stages.prototyping.target_s=0.001", "stages.prototyping.window_s=0"]
    return simulated(tmp_path_factory.mktemp("few"), "RTX 3090", *hopeless, size=2_000,
                     samples=(("one", load_of(2_500, 70_000)),), limit=6 * 1024**3, kind=Own)  # fmt: skip


@pytest.fixture(scope="session")
def with_data(whole):
    """The same with a dataset of its own."""
    histogram = tuple((100 * 1.2**i, 50 * (10 - abs(i - 10)) + 3) for i in range(20))
    sizes = tuple(
        SizeSummary(feature=name, mean=400 * scale, quantiles=((0.0, 100.0), (0.5, 380 * scale), (1.0, 3_200.0 * scale)),
                    histogram=tuple((low * scale, n) for low, n in histogram))
        for name, scale in (("nodes", 1), ("edges", 25))
    )  # fmt: skip
    data = DatasetSummary(
        path="pdbbind", n_complexes=5_318, n_usable=5_301, n_labelled=5_290, n_trained=5_290, sizes=sizes,
        largest=(("4abc", (("nodes", 3_199.0), ("edges", 81_000.0))),), oversize_policy="isolate", oversize=("4abc", "5xyz"),
    )  # fmt: skip
    return whole.model_copy(update={"dataset": data})


@pytest.fixture
def evidence(whole):
    return of_profile(whole, "p.json")


@pytest.fixture
def view(evidence):
    return view_of(evidence)


@pytest.fixture
def written(whole, tmp_path):
    """The whole profile as a file, and its JSON."""
    path = tmp_path / "p.json"
    write_profile(whole, path)
    return path, json.loads(path.read_text())


@pytest.fixture
def damaged(tmp_path):
    """Reads what `text` would be as a profile."""

    def read(text):
        path = tmp_path / "damaged.json"
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        return read_evidence(path)

    return read


@pytest.fixture
def run_folder(profile, tmp_path, write_run):
    """The folder of a run that ended."""
    folder = tmp_path / "runs" / "prototyping"
    write_run(folder, profile.plans["prototyping"], profile.config)
    return folder


@pytest.fixture
def run_view(run_folder):
    return run_view_of(read_run(run_folder, run_folder / "run.json"))
