"""What a lab makes of a probe before the models see it."""

import pytest

from compass.planning.experiment import with_load
from compass.records import Batch, Knobs, Load, Outcome, ProbeSpec, RuntimeSettings, Status

SAMPLES = {name: Load(graphs=1, sizes=(("nodes", nodes),)) for name, nodes in (("small", 10.0), ("large", 100.0))}
SPEC = ProbeSpec(
    knobs=Knobs(layers=2, channels=32),
    batches=tuple(Batch(members=((name, 2),)) for name in ("large", "small")),
    min_steps=2,
    max_steps=2,
    timeout_s=1,
    runtime=RuntimeSettings(threads=1),
)


def nodes_of(status, nodes):
    load = None if nodes is None else Load(graphs=2, sizes=(("nodes", nodes),))
    return with_load(SPEC, Outcome(status=status, load=load), SAMPLES).load["nodes"]


@pytest.mark.parametrize(
    ("status", "nodes", "held"),
    [
        (Status.OUT_OF_MEMORY, 20.0, 200.0),  # on what the first batch had left behind
        (Status.OUT_OF_MEMORY, 300.0, 300.0),
        (Status.OK, 20.0, 20.0),
        (Status.CRASHED, None, 20.0),  # asked for, as it could not say
    ],
)
def test_what_ran_out_held_its_largest_batch(status, nodes, held):
    assert nodes_of(status, nodes) == held
