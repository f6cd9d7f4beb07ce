"""A model that cannot be trained on one sample: batches have two, in every stage."""

from types import SimpleNamespace

import numpy as np
import pytest

from compass.planning.calibration import learn_least_batch
from compass.records import Batch, Knobs, Outcome, ProbeSpec, RuntimeSettings, Status, Variant
from compass.search.sample_loads import SampleLoads

NORMALISES = """Traceback (most recent call last):
  File "/home/me/my_model.py", line 20, in forward
    return self.head(x)
  File "/lib/site-packages/torch/nn/functional.py", line 2775, in _verify_batch_size
    raise ValueError(
ValueError: Expected more than 1 value per channel when training, got input size torch.Size([1, 64])"""


def probe(n_graphs, outcome):
    spec = ProbeSpec(
        knobs=Knobs(layers=2, channels=16), batches=(Batch(members=(("a", n_graphs),)),), min_steps=1, max_steps=1,
        timeout_s=1, runtime=RuntimeSettings(threads=1),
    )  # fmt: skip
    return spec, outcome


def experiment(*probes):
    loads = SampleLoads(("a", "b"), ("nodes",), np.array([[1.0], [9.0]]), isolated=frozenset({"b"}))
    return SimpleNamespace(runner=SimpleNamespace(probes=probes), least_batch=1, sample_loads=loads)


REFUSED = Outcome(status=Status.INVALID, detail=NORMALISES)


def test_two_where_one_is_refused(caplog):
    found = experiment(probe(2, Outcome(status=Status.OK)), probe(1, REFUSED))
    with caplog.at_level("INFO"):
        learn_least_batch(found)
    assert (found.least_batch, found.sample_loads.isolated) == (2, frozenset())
    assert caplog.messages == [
        "a batch of one does not run, so batches have at least two: invalid: ValueError: Expected more than 1 value per channel "
        "when training, got input size torch.Size([1, 64]) (my_model.py, line 20)"
    ]


@pytest.mark.parametrize(
    "probes",
    [
        (probe(2, Outcome(status=Status.OK)), probe(1, Outcome(status=Status.OK))),
        (probe(2, REFUSED), probe(1, REFUSED)),  # nothing runs: that is no question of the batch
        (probe(2, Outcome(status=Status.OK)), probe(1, Outcome(status=Status.CRASHED, detail="x"))),
        (probe(2, Outcome(status=Status.OK)),),
    ],
)
def test_else_one(probes):
    found = experiment(*probes)
    learn_least_batch(found)
    assert found.least_batch == 1


def test_a_reason_in_a_line():
    assert Outcome(status=Status.OUT_OF_MEMORY, detail="NumPy: Unable").summary == "out_of_memory: NumPy: Unable"
    assert Outcome(status=Status.CRASHED).summary == "crashed"
    assert Variant().label == "fp32"
