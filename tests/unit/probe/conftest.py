"""Specs and outcomes for tests."""

from collections.abc import Callable

import pytest

from compass.records import Batch, Knobs, Load, Outcome, ProbeSpec, RuntimeSettings, Status, StepTime


@pytest.fixture
def ask() -> Callable[..., ProbeSpec]:
    """A question that differs by its layers, or by whatever is given."""

    def make(layers: int = 3, **changes: object) -> ProbeSpec:
        fields = {
            "knobs": Knobs(layers=layers, channels=16),
            "batches": (Batch(members=(("1ia1", 2),)),),
            "min_steps": 2,
            "max_steps": 2,
            "timeout_s": 60.0,
            "runtime": RuntimeSettings(threads=1),
        }
        return ProbeSpec(**{**fields, **changes})

    return make


@pytest.fixture
def found() -> Callable[..., Outcome]:
    """An answer, good unless a status is given."""

    def make(status: Status = Status.OK, detail: str = "", **changes: object) -> Outcome:
        step = StepTime(median_s=0.5, low_s=0.4, high_s=0.6, n_steps=5)
        load = Load(graphs=1, sizes=(("nodes", 10), ("edges", 50)))
        measured = {"step": step, "live_bytes": 2**20, "footprint_bytes": 2**21, "segments": (("forward:stem", 2**20),)}
        return Outcome(status=status, detail=detail, load=load, **(measured if status is Status.OK else {}) | changes)

    return make
