import math

import pytest

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig, SpaceRules
from compass.records import Family
from compass.search.family import DESIGNS, follow
from compass.search.space import architectures, variants
from compass.units import GIB

PLAIN = OptimizerConfig()


def changed(**space):
    return PLAIN.model_copy(update={"space": SpaceRules(**space)})


def test_a_family_that_declares_nothing_changes_nothing():
    assert follow(PLAIN, Family()) == PLAIN


def test_what_is_declared_stands_where_nobody_changed_it():
    family = Family(space={"layers": [3, 5], "channels": [32, 96], "options": {"gaussians": 50}})
    space = follow(PLAIN, family).space
    assert (space.layers, space.channels, space.options) == ((3, 5), (32, 96), {"gaussians": 50})
    assert space.channel_step == SpaceRules().channel_step
    mine = follow(changed(layers=(4, 4), options={"heads": 8, "lmax": 1, "rbf": 32, "gaussians": 20}), family).space
    assert (mine.layers, mine.channels, mine.options) == ((4, 4), (32, 96), {"gaussians": 20})


def test_an_option_that_the_family_does_not_know_reaches_it():
    """So that it can refuse it."""
    found = follow(
        changed(options={"heads": 8, "lmax": 1, "rbf": 32, "hedas": 4}), Family(space={"options": {"gaussians": 50}})
    )
    assert found.space.options == {"gaussians": 50, "hedas": 4}


def test_a_knob_that_is_no_capacity_is_held():
    found = follow(PLAIN, Family(space={"layers": [3, 9], "channels": [64, 128]}, capacity=("channels",)))
    assert {layers for layers, _ in architectures(found.space, 16 * GIB)} == {3}
    assert {channels for _, channels in architectures(found.space, 16 * GIB)} == {64, 80, 96, 112, 128}
    assert found.probe.micro_architectures == ((3, 16), (3, 64))
    assert {layers for layers, _ in found.probe.anchor_architectures_cpu} == {3}
    wide = follow(PLAIN, Family(space={"channels": [50, 50]}, capacity=("layers",)))
    assert wide.probe.micro_architectures == ((3, 50), (6, 50))


def test_widths_are_whole_steps():
    found = follow(PLAIN, Family(space={"channel_step": 24}))
    assert all(channels % 24 == 0 for _, channels in found.probe.micro_architectures + found.probe.more_architectures)


@pytest.mark.parametrize("family", [Family(), Family(supports_checkpointing=False), Family(space={"layers": [2, 8]})])
@pytest.mark.parametrize(("step", "heads"), [(16, 3), (16, 10), (16, 12), (16, 64), (24, 8), (64, 8), (20, 7), (8, 8)])
def test_the_heads_share_out_every_width_and_no_two_become_one(family, step, heads):
    config = changed(channel_step=step, options={"heads": heads, "lmax": 1, "rbf": 32})
    found = follow(config, family)
    for design in DESIGNS:
        before, now = ([shape for name in design for shape in getattr(rules.probe, name)] for rules in (config, found))
        assert [layers for layers, _ in now] == [layers for layers, _ in before]
        assert all(channels % math.lcm(step, heads) == 0 for _, channels in now)
        assert all(whole >= channels for (_, whole), (_, channels) in zip(now, before, strict=True))
        widths = {channels: whole for (_, whole), (_, channels) in zip(now, before, strict=True)}
        assert [channels for _, channels in now] == [widths[channels] for _, channels in before]
        assert len(set(widths.values())) == len(widths)
    assert follow(found, family) == found


def test_what_every_run_probes_at_every_load_stays_narrowest():
    found = follow(changed(options={"heads": 10, "lmax": 1, "rbf": 32}), Family()).probe
    assert found.micro_architectures == ((3, 80), (3, 160), (6, 80), (6, 160))
    assert found.more_architectures == ((4, 240), (7, 320), (3, 400))
    assert found.extra_architectures == ((4, 480), (5, 400))
    assert found.anchor_architectures == ((2, 80), (3, 160), (5, 240))
    assert found.anchor_checkpointing == ((5, 240),)


def test_a_family_that_does_not_recompute_is_not_asked_to():
    found = follow(PLAIN, Family(supports_checkpointing=False))
    assert {kind.checkpointing for kind in variants(found.space, found.stages.production)} == {False}


@pytest.mark.parametrize(
    ("config", "family", "text"),
    [
        (PLAIN, Family(space={"leyers": 3}),
         "the workload's space.leyers: got 3; expected no such field. Correct its `space`."),
        (PLAIN, Family(space={"channel_step": "wide"}),
         "the workload's space.channel_step: got 'wide'; expected a whole number. Correct its `space`."),
        (changed(options={"heads": 0}), Family(),
         "space.options.heads: got 0; expected a whole number above zero. PyG's ViSNet has 8."),
        (PLAIN.model_copy(update={"stages": PLAIN.stages.model_copy(update={
            "validation": PLAIN.stages.validation.model_copy(update={"checkpointing": (True,)})})}),
         Family(supports_checkpointing=False),
         "stages.validation.checkpointing: got only True; expected False among the values, since this workload supports "
         "no other. Allow False, or have the workload honour knobs.variant.checkpointing and set `supports_checkpointing = True`."),
    ],
)  # fmt: skip
def test_what_cannot_be_followed(config, family, text):
    with pytest.raises(InputError) as caught:
        follow(config, family)
    assert str(caught.value) == text


def test_a_range_that_a_user_gives_is_kept_as_it_is_written():
    small, large = 1 * GIB, 80 * GIB
    mine = follow(changed(layers=(2, 10), channels_per_layer=(1, 1000)), Family()).space
    assert {max(layers for layers, _ in architectures(mine, budget)) for budget in (small, large)} == {10}
    family = Family(space={"layers": [2, 10], "channels": [16, 64]})  # as a workload of one's own declares it
    found = follow(PLAIN, family)
    assert {max(layers for layers, _ in architectures(found.space, budget)) for budget in (small, large)} == {5}
    assert {max(width for _, width in architectures(found.space, budget)) for budget in (small, large)} == {64}
    assert follow(found, family) == found


def test_ranges_of_compass_own_families_follow_the_memory():
    family = Family(space={"layers": [2, 10], "channels": [32, 512], "scaled": ["layers", "channels"]})
    found = follow(PLAIN, family)
    assert follow(changed(layers=(3, 7)), family).space.scaled == ("channels",)
    assert follow(found, family) == found
    assert max(architectures(found.space, 80 * GIB)) == (16, 512)
