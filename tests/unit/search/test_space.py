import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig, SpaceRules
from compass.search.space import architectures, data_cap, knobs_of, variants, vram_factor

RULES = SpaceRules()
GIB = 1024**3


@pytest.mark.parametrize(
    ("dataset_size", "cap"),
    [
        (1_000, 250_000), (10_000, 750_000), (25_000, 1_000_000), (100_000, 2_000_000),
        (round(math.sqrt(1_000 * 10_000)), 433_013),  # halfway in the logarithms: the geometric mean
        (50_000, 1_414_214), (1, 250_000), (0, 250_000), (10**9, 2_000_000),
    ],
)  # fmt: skip
def test_the_data_cap_goes_through_its_points_and_is_clamped(dataset_size, cap):
    assert data_cap(RULES.data_cap, dataset_size) == pytest.approx(cap, rel=1e-4)


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_the_data_cap_never_falls_with_more_data(one, other):
    assert data_cap(RULES.data_cap, min(one, other)) <= data_cap(RULES.data_cap, max(one, other))


@pytest.mark.parametrize(
    ("gib", "factor"), [(1, 0.75), (2, 0.75), (5, 0.8), (8, 0.85), (16, 1.0), (20, 1.075), (80, 1.6), (500, 1.6)]
)
def test_the_vram_factor_interpolates_its_table(gib, factor):
    assert vram_factor(RULES.vram_factors, gib * GIB) == pytest.approx(factor)


@given(
    budget=st.integers(1, 200 * GIB),
    layers=st.tuples(st.integers(1, 6), st.integers(6, 14)),
    channels=st.tuples(st.integers(1, 48), st.integers(200, 600)),
    step=st.sampled_from([8, 16, 20, 32]),
    heads=st.sampled_from([1, 3, 8, 12]),
)
def test_architectures_obey_the_rules(budget, layers, channels, step, heads):
    rules = SpaceRules(
        layers=layers, channels=channels, channel_step=step, options={"heads": heads}, scaled=("layers", "channels")
    )
    factor = vram_factor(rules.vram_factors, budget)
    found = architectures(rules, budget)
    assert len(set(found)) == len(found)
    for depth, width in found:
        assert layers[0] <= depth <= max(layers[0], round(layers[1] * factor))
        assert channels[0] <= width <= max(channels[0], round(channels[1] * factor))
        assert width % step == width % heads == 0
        assert 12 <= width / depth <= 32


@given(st.integers(1, 200 * GIB), st.integers(1, 200 * GIB))
def test_more_memory_takes_no_architecture_away(one, other):
    assert set(architectures(RULES, min(one, other))) <= set(architectures(RULES, max(one, other)))


def test_the_space_at_16_gib():
    found = architectures(RULES, 16 * GIB)
    assert (6, 128) in found
    assert (9, 256) in found  # the published ViSNets
    assert min(found) == (2, 32)
    assert max(found) == (12, 384)
    assert len(found) == 103


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"heads": 0}}, "space.options.heads: got 0; expected a whole number above zero. PyG's ViSNet has 8."),
        ({"options": {"heads": "x"}},
         "space.options.heads: got 'x'; expected a whole number above zero. PyG's ViSNet has 8."),
        ({"channels": (20, 30)},
         "space: got no model of 2 to 12 layers and 20 to 30 channels in steps of 16 with 12 to 32 channels a layer; "
         "expected at least one. Widen space.layers, space.channels or space.channels_per_layer."),
    ],
)  # fmt: skip
def test_a_space_without_models_is_refused(changes, message):
    with pytest.raises(InputError) as caught:
        architectures(SpaceRules(**{"options": {}, **changes}), 16 * GIB)
    assert str(caught.value) == message


def test_variants_are_precisions_by_checkpointing():
    config = OptimizerConfig()
    stage = config.stages.prototyping.model_copy(update={"precision": ("fp32", "bf16")})
    kinds = variants(config.space, stage)
    assert [str(kind) for kind in kinds] == ["fp32", "fp32+checkpointing", "bf16", "bf16+checkpointing"]
    assert kinds[0].options == (("heads", 8), ("lmax", 1), ("rbf", 32))
    assert [(k.layers, k.channels, str(k.variant)) for k in knobs_of([(2, 32), (3, 48)], kinds[:2])] == [
        (2, 32, "fp32"), (3, 48, "fp32"), (2, 32, "fp32+checkpointing"), (3, 48, "fp32+checkpointing"),
    ]  # fmt: skip


def test_one_value_alone_is_held_however_much_memory_there_is():
    held = SpaceRules(layers=(3, 3), channels=(32, 96))
    assert {depth for depth, _ in architectures(held, 80 * GIB)} == {3}
    odd = {"layers": (2, 12), "channels": (50, 50)}
    assert {width for _, width in architectures(SpaceRules(**odd, options={}), 80 * GIB)} == {50}
    with pytest.raises(InputError, match="no model of 2 to 19 layers and 50 to 50 channels"):
        architectures(SpaceRules(**odd), 80 * GIB)


def test_listed_options_are_combined_first_values_first():
    space = SpaceRules(options={"rank": (8, 4), "act": "silu", "heads": (2, 3)})
    kinds = variants(space, OptimizerConfig().stages.smoke_test)
    assert [dict(kind.options) for kind in kinds] == [
        {"act": "silu", "heads": heads, "rank": rank} for heads in (2, 3) for rank in (8, 4)
    ]
    assert str(kinds[1]) == "fp32+heads=2+rank=4"
    assert len({kind.time_key for kind in kinds}) == 4
    assert {width for _, width in architectures(space, 16 * GIB)} <= set(range(0, 513, 48))  # for 2 heads and for 3


def test_a_listed_option_is_the_same_model_as_a_given_one():
    (listed, _), (given,) = (
        variants(SpaceRules(options={"rank": rank}), OptimizerConfig().stages.smoke_test) for rank in ((8, 4), 8)
    )
    assert repr(listed) == repr(given)  # and so is its key in the ledger


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": (4, 4)}, "options.rank: a value is listed twice"),
        ({"rank": (1, 2, 3, 4), "heads": (1, 2, 3, 4)},
         "options: the lists have 16 combinations; each is probed by itself, and at most 12 can be"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_searched(options, message):
    with pytest.raises(ValueError, match=message):
        SpaceRules(options=options)
