"""Every stage has one value on the axes that trials decide: as measured, unless the user fixed it."""

from types import SimpleNamespace

import pytest

from compass.config_files import load_config
from compass.planning.session import take_tried_values
from compass.records import AXES, RuntimeChoice
from compass.search.space import allowed_values, variants, with_tried_values

FUSED = next(axis for axis in AXES if axis.name == "fused")
PLAIN = load_config(None, ())


def fused(config, stage):
    return {variant.fused for variant in variants(config.space, config.stages[stage])}


@pytest.mark.parametrize(("chosen", "expected"), [({}, False), ({"fused": True}, True), ({"fused": False}, False)])
def test_where_nothing_is_fixed_the_measurement_decides(chosen, expected):
    assert allowed_values(PLAIN, FUSED) == (False, True)
    config = with_tried_values(PLAIN, PLAIN, chosen)
    assert fused(config, "smoke_test") == fused(config, "production") == {expected}
    assert len(variants(config.space, config.stages.production)) == 2  # with and without activation checkpointing


def test_what_the_user_fixed_stays():
    asked = load_config(None, ["stages.production.fused=[true]"])
    config = with_tried_values(asked, asked, {"fused": False})
    assert (fused(config, "production"), fused(config, "validation")) == ({True}, {False})


def test_before_the_measurement_a_stage_has_the_default():
    assert fused(PLAIN, "production") == {False}


def test_the_models_of_the_space_take_the_measured_value(known):
    told = known({(3, 48): {"capacity": 10}, (5, 96): {"capacity": 20}})
    experiment = SimpleNamespace(config=told.config, capacities=told.capacities)
    measured = RuntimeChoice(setting="fused", chosen="True", why="faster")
    take_tried_values(experiment, told.config, [measured])
    assert {(knobs.layers, knobs.variant.fused): n for knobs, n in experiment.capacities.items()} == {
        (3, True): 10,
        (5, True): 20,
    }
    assert fused(experiment.config, "prototyping") == {True}
