"""Which devices of a machine its ranks train on."""

import pytest

from compass.records import device_kind
from compass.training.ranks import local_devices


@pytest.mark.parametrize(
    ("kind", "index", "local", "n_local", "expected"),
    [
        ("cpu", 0, 0, 1, 1),
        ("cpu", 0, 1, 4, 4),
        ("cuda", 2, 0, 1, [2]),
        ("cuda", 0, 0, 2, [0, 1]),
        ("cuda", 2, 1, 2, [1, 2]),  # `--device cuda:1 --devices 2`, in its second rank
    ],
)
def test_ranks_train_where_they_were_planned(kind, index, local, n_local, expected):
    assert local_devices(device_kind(kind), index, local, n_local) == expected
