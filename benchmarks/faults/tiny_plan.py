"""A plan for a ViSNet so small that its training is a matter of seconds, and a profile that holds it."""

from __future__ import annotations

from compass.optimizer_config import OptimizerConfig
from compass.profile import Profile
from compass.records import (
    Affine,
    BytesLaw,
    Certificate,
    Configuration,
    Fingerprint,
    Hardware,
    Knobs,
    Load,
    Measured,
    Predicted,
    RuntimeSettings,
    StagePlan,
    StepTime,
    Variant,
)
from compass.units import GIB
from compass.version import __version__

OPTIONS = (("heads", 2), ("lmax", 1), ("rbf", 8))
FINGERPRINT = Fingerprint(device="cpu", driver="", torch="", versions=(), workload="crops")


def tiny_plan(
    *, batch_size: int = 3, shape: tuple[int, int] = (2, 16), budget_bytes: int = 2 * GIB, loader_workers: int = 0
) -> StagePlan:
    """A prototyping plan of `shape`, (layers, channels), whose laws let every batch pass."""
    load = Load(graphs=batch_size, sizes=(("nodes", 300), ("edges", 5000)))
    choice = Configuration(
        knobs=Knobs(layers=shape[0], channels=shape[1], variant=Variant(options=OPTIONS)),
        capacity=10_000,
        batch_size=batch_size,
        load=load,
    )
    step = StepTime(median_s=0.05, low_s=0.05, high_s=0.05, n_steps=9)
    law = BytesLaw(segments=(("step", Affine(base=0.0, per_unit=(("nodes", 0.0), ("edges", 1000.0)))),))
    return StagePlan(
        stage="prototyping",
        choice=choice,
        predicted=Predicted(live_bytes=1, footprint_bound_bytes=1, step_s=0.05, cycle_s=0.5, throughput=60),
        measured=Measured(step=step, cycle_s=0.5, throughput=60, live_bytes=1, footprint_bytes=1),
        accumulate=2,
        bytes_law=law,
        loader_workers=loader_workers,
        runtime=RuntimeSettings(threads=1),
        limited_by="memory",
        why="",
        certificate=Certificate(
            ceiling_bytes=budget_bytes,
            batches=(),
            worst=load,
            n_steps=1,
            enforced=True,
            footprint_bound_bytes=budget_bytes,
        ),
    )


def tiny_profile(config: OptimizerConfig, *, loader_workers: int = 0) -> Profile:
    """A profile with the plan alone."""
    hardware = Hardware(
        kind="cpu",
        name="cpu",
        driver="",
        total_bytes=8 * GIB,
        free_bytes=8 * GIB,
        others_bytes=0,
        budget_bytes=2 * GIB,
    )
    return Profile(
        compass_version=__version__,
        created="2026-01-01T00:00:00+00:00",
        fingerprint=FINGERPRINT,
        hardware=hardware,
        workload="visnet",
        dataset_size=10,
        data_cap=100_000,
        plans={"prototyping": tiny_plan(loader_workers=loader_workers)},
        config=config,
    )
