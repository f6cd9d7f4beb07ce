import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.cost.parameters import capacities
from compass.optimizer_config import OptimizerConfig, SpaceRules
from compass.probe.counting import count_unfilled
from compass.probe.simulation.step import n_parameters
from compass.records import Knobs, Variant
from compass.search.space import architectures, knobs_of, variants
from compass.workloads.visnet import ViSNetWorkload

CONFIG = OptimizerConfig()
PLAIN = variants(CONFIG.space, CONFIG.stages.production)[:1]
GRID = [Knobs(layers=depth, channels=16 * width) for depth in range(1, 13) for width in range(1, 33)]


def polynomial(k):
    depth, width = k.layers, k.channels
    return 1000 + 37 * width + 5 * width**2 + 100 * depth + 23 * depth * width + 14 * depth * width**2


def uneven(k):
    return polynomial(k) + (96 if k.channels % 64 else 0)


class Counting:
    """Counts with `law`, and how often it was asked for how many."""

    def __init__(self, law):
        self.law, self.asked = law, []

    def __call__(self, knobs):
        knobs = list(knobs)
        self.asked.append(len(knobs))
        return {k: self.law(k) for k in knobs}


@given(st.integers(1, 40), st.integers(0, 10**6))
def test_a_polynomial_is_exact_in_any_space(n, seed):
    space = random.Random(seed).sample(GRID, n)
    count = Counting(polynomial)
    assert capacities(space, count) == {k: polynomial(k) for k in space}
    assert sum(count.asked) <= max(14, n)


def off_the_line():
    """A space of which nearly all lies on one line, where the sample would leave coefficients open."""
    line = [Knobs(layers=depth, channels=16 * depth) for depth in range(1, 200)]
    return [*line, Knobs(layers=3, channels=80), Knobs(layers=9, channels=160)]


@pytest.mark.parametrize(
    ("space", "law", "n_asked"),
    [
        ([k for k in GRID if k.layers == 3], polynomial, 12),
        ([Knobs(layers=depth, channels=64) for depth in range(1, 40)], polynomial, 12),
        (GRID[:12], uneven, 12),
        (GRID, uneven, 14 + len(GRID)),
        (off_the_line(), polynomial, 12 + 201),
    ],
    ids=["one depth", "one width", "few", "irregular", "off the line"],
)
def test_spaces_and_families_of_other_shapes(space, law, n_asked):
    count = Counting(law)
    assert capacities(space, count) == {k: law(k) for k in space}
    assert sum(count.asked) <= n_asked


def real(knobs):
    return count_unfilled(ViSNetWorkload(CONFIG), knobs)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"heads": 4, "lmax": 2, "rbf": 16}])
def test_visnet_is_such_a_family(options):
    space = knobs_of(architectures(SpaceRules(), 24 * 1024**3), PLAIN)
    given = tuple(sorted((SpaceRules().options | options).items()))
    space = [k.model_copy(update={"variant": Variant(options=given)}) for k in space]
    count = Counting(real)
    found = capacities(space, count)
    assert len(count.asked) == 1
    for k in random.Random(0).sample(space, 8):
        assert found[k] == real(k) == n_parameters(k)
        assert found[k] == real(k.model_copy(update={"variant": Variant(checkpointing=True, options=given)}))
