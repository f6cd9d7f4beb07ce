"""A profile as a run would leave it, for whoever reads or prints one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from compass.config_files import load_config
from compass.optimizer_config import OptimizerConfig
from compass.profile import ProbeCosts, Profile
from compass.records import (
    Affine,
    Batch,
    BytesLaw,
    Certificate,
    Choice,
    Fingerprint,
    Hardware,
    Knobs,
    Load,
    Measured,
    RuntimeSettings,
    StageFailure,
    StagePlan,
    StepTime,
    Variant,
)
from compass.search.knowledge import Knowledge
from compass.search.sample_loads import make_sample_loads
from compass.search.space import variants

MIB = 1024**2


def make_choice(layers: int = 6, channels: int = 128, *, batch_size: int = 32, **changes: object) -> Choice:
    load = Load(graphs=1, sizes=(("nodes", 240), ("edges", 5_400))) * batch_size
    fields = {
        "knobs": Knobs(layers=layers, channels=channels, variant=Variant(options=(("heads", 8), ("lmax", 1)))),
        "capacity": 2_000 * layers * channels // 16,
        "batch_size": batch_size,
        "load": load,
        "live_bytes": 900 * MIB,
        "footprint_bound_bytes": 1400 * MIB,
        "step_s": 2.0,
        "cycle_s": 900.0,
        "throughput": batch_size / 2.0,
        "score": 1.1,
    }
    return Choice(**{**fields, **changes})


def make_measured(**changes: object) -> Measured:
    fields = {
        "step": StepTime(median_s=2.0, low_s=1.96, high_s=2.05, n_steps=9), "cycle_s": 900.0, "throughput": 16.0,
        "live_bytes": 895 * MIB, "footprint_bytes": 1350 * MIB,
    }  # fmt: skip
    return Measured(**{**fields, **changes})


def make_plan(stage: str, choice: Choice | None = None, **changes: object) -> StagePlan:
    choice = choice or make_choice()
    batch = Batch(members=(("1ia1", choice.batch_size),))
    fields = {
        "stage": stage,
        "choice": choice.configuration,
        "predicted": choice.prediction,
        "measured": make_measured(),
        "accumulate": 2,
        "runtime": RuntimeSettings(threads=2),
        "bytes_law": BytesLaw(segments=(("forward", Affine(base=1e6, per_unit=(("nodes", 2e3),))),)),
        "limited_by": "score",
        "why": "The best of 61 admissible configurations.",
        "certificate": Certificate(
            ceiling_bytes=4096 * MIB, batches=(batch,), worst=choice.load, n_steps=12, enforced=True,
            footprint_bound_bytes=1400 * MIB,
        ),
        "fastest": make_choice(2, 48, batch_size=64),
        "runners_up": (make_choice(5, 112),),
    }  # fmt: skip
    return StagePlan(**{**fields, **changes})


def make_profile() -> Profile:
    """Two plans and a failure on a machine of 8 GiB."""
    return Profile(
        compass_version="0.2.0",
        created="2026-01-02T03:04:05+00:00",
        fingerprint=Fingerprint(
            device="Some CPU", driver="linux", torch="2.13.0", versions=(("torch_geometric", "2.8"),), workload="ab12"
        ),
        hardware=Hardware(
            kind="cpu", name="Some CPU", driver="linux", total_bytes=8192 * MIB, free_bytes=6000 * MIB,
            others_bytes=1000 * MIB, limit_bytes=4096 * MIB, budget_bytes=4096 * MIB,
        ),
        workload="visnet",
        dataset_size=19_000,
        data_cap=901_234,
        reference=make_choice(),
        plans={
            "smoke_test": make_plan("smoke_test", make_choice(2, 32, batch_size=1), indicative=True, accumulate=64),
            "prototyping": make_plan("prototyping"),
        },
        failures={
            "validation": StageFailure(
                stage="validation", limited_by="time", reason="No model of the large space is fast enough.",
                nearest=make_choice(4, 112, cycle_s=7_000.0),
            )
        },
        probe_costs=ProbeCosts(calibrate_probes=14),
        config=OptimizerConfig(),
    )  # fmt: skip


@pytest.fixture
def profile() -> Profile:
    """See `make_profile`."""
    return make_profile()


# ---------------------------------------------------------------------------------- what a stage knows, hand-made


@dataclass(frozen=True)
class Model:
    """What a made-up model costs: bytes a graph, and seconds a step by the number of graphs."""

    capacity: int
    graph_bytes: float = 1.0
    step_s: Callable[[np.ndarray], np.ndarray] = lambda graphs: graphs / 10
    slower: Mapping[str, float] = field(default_factory=dict)
    """How many times as long a step takes, and how many bytes a graph, by allocator."""
    wasteful: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MadeUpCosts:
    """Costs as the models of a test say; a graph is one node."""

    models: Mapping[Knobs, Model]
    timed: bool = False

    def bytes_law(self, knobs, allocator):
        rate = self.models[knobs].graph_bytes * self.models[knobs].wasteful.get(allocator, 1.0)
        return BytesLaw(segments=(("all", Affine(base=0, per_unit=(("nodes", rate),))),))

    def step_s(self, knobs, capacity, sizes, allocator=None):
        factor = self.models[knobs].slower.get(allocator, 1.0)
        return np.asarray(factor * self.models[knobs].step_s(sizes[:, 0]), dtype=np.float64)

    def spread(self, knobs, capacity, sizes, allocator=None):
        return 0.05

    def spread_of_runs(self, knobs, capacity, sizes, allocator=None):
        return 0.05

    def covariance(self, choices):
        return 0.05**2 * np.array(
            [[one.knobs == other.knobs for other in choices] for one in choices], dtype=np.float64
        )

    def is_timed(self, knobs):
        return self.timed


def make_known(
    models: Mapping[tuple[int, int], Mapping], *, changes: Sequence[str] = (), timed: bool = False, **given
) -> Knowledge:
    """Knowledge of plain models: `Model` fields by (layers, channels). Room for 100 graphs of a byte, data for all."""
    plain = [f"stages.{stage}.checkpointing=[false]" for stage in ("prototyping", "validation", "production")]
    config = load_config(None, [*plain, *changes])
    (kind,) = variants(config.space, config.stages.production)
    by_knobs = {
        Knobs(layers=depth, channels=width, variant=kind): Model(**costs) for (depth, width), costs in models.items()
    }
    return Knowledge(
        config=config,
        costs=MadeUpCosts(by_knobs, timed),
        work=make_sample_loads([("one", Load(graphs=1, sizes=(("nodes", 1.0),)))], 10**6),
        capacities={knobs: model.capacity for knobs, model in by_knobs.items()},
        **{"budget_bytes": 100, "dataset_size": 10**6, "data_cap": 10**9, **given},
    )


@pytest.fixture(scope="session")
def known():
    """Makes what a stage knows: see `make_known`."""
    return make_known
