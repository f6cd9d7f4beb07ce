"""Every stage has one value on the axes of the weight update: as measured, unless the user fixed it."""

import pytest

from compass.config_files import load_config
from compass.records import AXES
from compass.search.space import allowed_values, variants, with_update_values

FUSED = next(axis for axis in AXES if axis.name == "fused")
PLAIN = load_config(None, ())


def fused(config, stage):
    return {variant.fused for variant in variants(config.space, config.stages[stage])}


@pytest.mark.parametrize(("chosen", "expected"), [({}, False), ({"fused": True}, True), ({"fused": False}, False)])
def test_where_nothing_is_fixed_the_measurement_decides(chosen, expected):
    assert allowed_values(PLAIN, FUSED) == (False, True)
    config = with_update_values(PLAIN, PLAIN, chosen)
    assert fused(config, "smoke_test") == fused(config, "production") == {expected}
    assert len(variants(config.space, config.stages.production)) == 2  # with and without activation checkpointing


def test_what_the_user_fixed_stays():
    asked = load_config(None, ["stages.production.fused=[true]"])
    config = with_update_values(asked, asked, {"fused": False})
    assert (fused(config, "production"), fused(config, "validation")) == ({True}, {False})


def test_before_the_measurement_a_stage_has_the_default():
    assert fused(PLAIN, "production") == {False}
