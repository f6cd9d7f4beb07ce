"""Counting the parameters of models that have no values."""

import pytest
import torch

from compass.probe.counting import count_parameters, count_unfilled
from compass.records import Knobs

KNOBS = Knobs(layers=2, channels=8)


class Built:
    """A workload as far as counting goes."""

    def __init__(self, build):
        self.build = build


def drawn(knobs):
    """Every usual way to draw values, and a frozen parameter."""
    model = torch.nn.Sequential(torch.nn.Linear(knobs.channels, 5), torch.nn.Embedding(7, 3), torch.nn.GRU(2, 2))
    torch.nn.init.trunc_normal_(model[0].weight)
    torch.nn.init.xavier_uniform_(model[1].weight)
    torch.nn.init.orthogonal_(model[2].weight_ih_l0)
    model[0].bias.data.normal_(std=0.1)
    model[1].weight.requires_grad = False
    return model


def looking(knobs):
    """A model that insists on its values."""
    weight = torch.zeros(knobs.channels).normal_()
    if not weight.any():
        raise RuntimeError("no values")
    return torch.nn.Linear(knobs.channels, 1)


@pytest.mark.parametrize("build", [drawn, looking])
def test_the_count_is_that_of_the_model(build):
    assert count_unfilled(Built(build), KNOBS) == count_parameters(build(KNOBS))


def test_nothing_is_drawn():
    before = torch.random.get_rng_state()
    count_unfilled(Built(drawn), KNOBS)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_cannot_be_built_says_so():
    def broken(knobs):
        raise ValueError(f"no {knobs.layers}")

    with pytest.raises(ValueError, match="no 2"):
        count_unfilled(Built(broken), KNOBS)
