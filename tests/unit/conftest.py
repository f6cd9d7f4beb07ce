"""A profile as a run would leave it, for whoever reads or prints one."""

import pytest

from compass.optimizer_config import OptimizerConfig
from compass.profile import Ledger, Profile
from compass.records import (
    AffineBytes,
    Batch,
    BytesLaw,
    Certificate,
    Choice,
    Fingerprint,
    Hardware,
    Knobs,
    Load,
    RuntimeSettings,
    StageFailure,
    StagePlan,
    StepTime,
    Variant,
)

MIB = 1024**2


def make_choice(layers: int = 6, channels: int = 128, *, batch_size: int = 32, **changes: object) -> Choice:
    load = Load(graphs=1, sizes=(("nodes", 240), ("edges", 5_400))) * batch_size
    fields = {
        "knobs": Knobs(layers=layers, channels=channels, variant=Variant(options=(("heads", 8), ("lmax", 1)))),
        "capacity": 2_000 * layers * channels // 16,
        "batch_size": batch_size,
        "load": load,
        "live_bytes": 900 * MIB,
        "footprint_bytes": 1400 * MIB,
        "step_s": 2.0,
        "cycle_s": 900.0,
        "throughput": batch_size / 2.0,
        "score": 1.1,
    }
    return Choice(**{**fields, **changes})


def make_plan(stage: str, choice: Choice | None = None, **changes: object) -> StagePlan:
    choice = choice or make_choice()
    batch = Batch(members=(("1ia1", choice.batch_size),))
    fields = {
        "stage": stage,
        "choice": choice,
        "accumulate": 2,
        "runtime": RuntimeSettings(threads=2),
        "bytes_law": BytesLaw(segments=(("forward", AffineBytes(base=1e6, per_unit=(("nodes", 2e3),))),)),
        "step": StepTime(median_s=2.0, low_s=1.96, high_s=2.05, n_steps=9),
        "cycle_s": 900.0,
        "throughput": 16.0,
        "binds": "score",
        "why": "The best of 61 admissible configurations.",
        "certificate": Certificate(
            ceiling_bytes=4096 * MIB, batches=(batch,), worst=choice.load, live_bytes=895 * MIB,
            footprint_bytes=1350 * MIB, n_steps=12, enforced=True,
        ),
        "literal": make_choice(2, 48, batch_size=64),
        "runners_up": (make_choice(5, 112),),
    }  # fmt: skip
    return StagePlan(**{**fields, **changes})


@pytest.fixture
def profile() -> Profile:
    """Two plans and a failure on a machine of 8 GiB."""
    return Profile(
        compass_version="0.1.0",
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
                stage="validation", binds="time", reason="No model of the large space is fast enough.",
                nearest=make_choice(4, 112, cycle_s=7_000.0),
            )
        },
        ledger=Ledger(calibrate_probes=14),
        config=OptimizerConfig(),
    )  # fmt: skip
