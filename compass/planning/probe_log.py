"""A probe beside what was predicted of it before it ran."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compass.cost.models import CostModels
from compass.probe.requests import Phase
from compass.records import Expectation, Knobs, Outcome, ProbeNote, ProbeSpec, Stage
from compass.search.sample_loads import SampleLoads

BEYOND_DOUBT = 3.0
"""Standard deviations of a prediction: a chance in seven hundred."""


def expectation(
    costs: CostModels, work: SampleLoads, capacities: Mapping[Knobs, int], spec: ProbeSpec, *, timed: bool
) -> Expectation | None:
    """What `costs` say of a probe on real samples, of its time only if it is to be `timed`.

    None for a variant of which they know nothing.
    """
    knobs = spec.knobs
    if not costs.memory.knows(knobs.variant):
        return None
    law = costs.bytes_law(knobs, spec.runtime.allocator)
    loads = [work.load(batch) for batch in spec.batches]
    memory = Expectation(
        live_bytes=law.live(loads[-1]), footprint_bound_bytes=max(law.upper_footprint(load) for load in loads)
    )
    if not timed or not costs.time.knows(knobs.variant):
        return memory
    sizes = np.array([[size for _, size in work.load(spec.sequence[-1]).sizes]])
    step_s = float(costs.step_s(knobs, capacities.get(knobs, 0), sizes)[0])
    return memory.model_copy(update={"step_s": step_s, "spread": costs.spread_of_runs(knobs, step_s)})


def note(spec: ProbeSpec, outcome: Outcome, *, telling: bool, phase: Phase, stage: Stage | None) -> ProbeNote:
    """The probe as the profile keeps it; its footprint only if that is `telling`."""
    return ProbeNote.of(
        spec.knobs,
        key=spec.key,
        phase=phase,
        stage=stage,
        load=outcome.step_load,
        status=outcome.status,
        detail=outcome.detail,
        live_bytes=outcome.live_bytes,
        footprint_bytes=outcome.footprint_bytes if telling else None,
        step=outcome.step,
        wall_s=outcome.wall_s,
    )


def is_slow(told: ProbeNote) -> bool:
    """Whether a probe was slower than predicted by more than its prediction can be wrong."""
    expected, step = told.expected, told.step
    if expected is None or expected.step_s is None or expected.spread is None or step is None:
        return False
    return step.median_s > expected.step_s * (1 + BEYOND_DOUBT * expected.spread)


def is_faster(told: ProbeNote, before: ProbeNote) -> bool:
    """Whether a probe that was made again was faster than chance explains: its median below the interval of the former one."""
    return told.step is not None and before.step is not None and told.step.median_s < before.step.low_s
