"""A certificate whose memory moved to the host looks like a very slow success."""

from types import SimpleNamespace

import pytest

from compass.planning.certify import seems_spilled
from compass.planning.prober import Probed
from compass.records import Batch, Expectation, Knobs, Outcome, ProbeSpec, RuntimeSettings, Status, StepTime

BUDGET = 1_000
SPEC = ProbeSpec(
    knobs=Knobs(layers=2, channels=32),
    batches=(Batch(members=(("one", 1),)),),
    min_steps=4,
    max_steps=9,
    timeout_s=1,
    runtime=RuntimeSettings(threads=1),
)


@pytest.mark.parametrize(
    ("step_s", "held", "on_cpu", "spills"),
    [
        (3.0, 900, False, True),
        (3.0, 500, False, False),  # slow for another reason: half of the memory is free
        (1.2, 900, False, False),  # no slower than predictions are wrong
        (3.0, 900, True, False),  # a host has nowhere to move it to
    ],
)
def test_a_step_that_is_far_too_slow_in_a_full_memory(step_s, held, on_cpu, spills):
    step = StepTime(median_s=step_s, low_s=step_s, high_s=step_s, n_steps=9)
    outcome = Outcome(status=Status.OK, step=step, footprint_bytes=held)
    expected = Expectation(live_bytes=1, footprint_bound_bytes=1, step_s=1.0, spread=0.05)
    probed = Probed(SPEC, outcome, expected, reused=False, phase="certify", stage="production")
    assert seems_spilled(SimpleNamespace(on_cpu=on_cpu, budget_bytes=BUDGET), probed) == spills
