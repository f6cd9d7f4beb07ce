"""What a step is made of: its parameters are the real model's."""

from __future__ import annotations

import pytest
from torch_geometric.nn.models.visnet import EquivariantScalar, ViSNetBlock

from compass.probe.simulation.step import EMBEDDING_ROWS, n_parameters
from compass.records import Knobs, Variant


@pytest.mark.parametrize(
    ("layers", "channels", "heads", "lmax", "rbf"),
    [(1, 16, 8, 1, 32), (2, 32, 8, 1, 32), (6, 128, 8, 1, 32), (3, 48, 4, 2, 64), (9, 112, 8, 2, 16)],
)
def test_parameters_are_those_of_the_real_family(layers, channels, heads, lmax, rbf):
    block = ViSNetBlock(
        num_layers=layers, hidden_channels=channels, num_heads=heads, lmax=lmax, num_rbf=rbf, max_z=EMBEDDING_ROWS
    )
    real = sum(p.numel() for model in (block, EquivariantScalar(channels)) for p in model.parameters())
    options = (("heads", heads), ("lmax", lmax), ("rbf", rbf))
    assert n_parameters(Knobs(layers=layers, channels=channels, variant=Variant(options=options))) == real


def test_knobs_without_options_mean_the_familys_defaults():
    plain = Knobs(layers=4, channels=64)
    spelled = Knobs(layers=4, channels=64, variant=Variant(options=(("heads", 8), ("lmax", 1), ("rbf", 32))))
    assert n_parameters(plain) == n_parameters(spelled)
