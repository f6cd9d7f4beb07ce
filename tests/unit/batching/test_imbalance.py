"""How long ranks wait for the slowest, worked by hand."""

import numpy as np
import pytest

from compass.batching.imbalance import predicted_imbalance
from compass.records import Affine, BytesLaw

LAW = BytesLaw(segments=(("step", Affine(base=0.0, per_unit=(("nodes", 1.0),))),))


def imbalance(nodes, *, base=0.0, batch_size=1, n_ranks=2):
    sizes, time_law = np.array(nodes, dtype=float)[:, None], Affine(base=base, per_unit=(("nodes", 1.0),))
    return predicted_imbalance(sizes, LAW, time_law, ("nodes",), batch_size=batch_size, n_ranks=n_ranks, seed=3)


@pytest.mark.parametrize(
    ("nodes", "given", "expected"),
    [
        ([10, 20], {}, 20 / 15 - 1),
        ([20, 10, 10, 20], {}, 0.0),  # batches of like times share a step
        ([10, 20, 30, 60], {}, (20 + 60) / (15 + 45) - 1),
        ([10, 20], {"base": 10.0}, 30 / 25 - 1),
        ([10, 20, 30], {}, 30 / 25 - 1),  # the one that is left over is split
        ([10] * 8, {"batch_size": 2}, 0.0),
        ([10, 20, 30], {"n_ranks": 3}, 30 / 20 - 1),
        ([10], {}, 0.0),
        ([0, 0], {}, 0.0),
    ],
)
def test_worked_by_hand(nodes, given, expected):
    assert imbalance(nodes, **given) == pytest.approx(expected)


def test_batches_are_as_large_as_planned():
    assert imbalance([10, 10, 10, 60], batch_size=4, n_ranks=1) == pytest.approx(0.0)
    assert imbalance([10, 10, 10], batch_size=2) == pytest.approx(20 / 15 - 1)
