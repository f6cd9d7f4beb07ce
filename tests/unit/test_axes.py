"""The axes table: fields, settings and records agree, and a new axis changes no key and no old file."""

import pytest

from compass.cli.parse import parse_axes
from compass.errors import InputError
from compass.optimizer_config import StageRules
from compass.records import (
    AXES,
    AxisValues,
    Batch,
    Candidate,
    Family,
    Knobs,
    Load,
    Model,
    ProbeSpec,
    RuntimeSettings,
    Variant,
)
from compass.records.axes import FIRST_AXES

BF16 = Variant(precision="bf16", checkpointing=True, options=(("heads", 8),))
PLAIN = tuple(axis.default for axis in AXES if axis.is_tried)


def test_every_axis_has_a_field_a_setting_and_names_of_its_own():
    names = [axis.name for axis in AXES]
    assert names == list(AxisValues.model_fields)
    assert set(names) <= set(StageRules.model_fields)
    for axis in AXES:
        assert AxisValues.model_fields[axis.name].default == axis.default
        assert len(set(axis.shown.values())) == len(axis.values)
        assert not axis.family_flag or hasattr(Family(), axis.family_flag)
        for rules in StageRules(target_s=None), StageRules(target_s=None, **{axis.name: axis.values}):
            assert set(getattr(rules, axis.name)) <= set(axis.values)


def test_a_variant_is_shown_and_sorted_by_its_values():
    assert (str(Variant()), str(BF16), BF16.label) == ("fp32", "bf16+checkpointing", "bf16+checkpointing")
    assert list(BF16.axis_values) == [axis.name for axis in AXES]
    assert BF16.axis_values.items() >= {"precision": "bf16", "checkpointing": True}.items()
    others = [Variant(precision="bf16"), Variant(checkpointing=True), Variant()]
    assert min(others, key=lambda one: one.departures) == Variant()
    assert [one.time_key[:-1] for one in others] == [("bf16", *PLAIN), ("fp32", *PLAIN), ("fp32", *PLAIN)]
    assert [one.is_factor for one in others] == [False, True, False]
    assert BF16.of_memory == BF16
    fused = Variant(fused=True)  # all models of a machine have it: a form of its own, not a factor of another's
    assert (str(fused), fused.time_key[:-1], fused.is_factor) == ("fp32", ("fp32", True, *PLAIN[1:]), False)


def test_a_model_is_taken_apart_in_one_place():
    knobs = Knobs(layers=3, channels=48, variant=BF16)
    row = Candidate.of(knobs, capacity=7, verdict="admissible")
    assert (row.layers, row.channels, row.precision, row.checkpointing, row.capacity) == (3, 48, "bf16", True, 7)
    assert row.is_of(knobs)
    assert row.is_same(Model.of(knobs))
    for other in (knobs.model_copy(update={"layers": 4}), knobs.model_copy(update={"variant": Variant()})):
        assert not row.is_of(other)
        assert not row.is_same(Model.of(other))


def test_keys_and_files_of_the_first_release_stay():
    assert [axis.name for axis in AXES][: len(FIRST_AXES)] == list(FIRST_AXES)
    variant = Variant(options=(("heads", 8),))
    assert repr(variant) == "Variant(precision='fp32', checkpointing=False, options=(('heads', 8),))"
    spec = ProbeSpec(
        knobs=Knobs(layers=2, channels=32, variant=variant), batches=(Batch(synthetic=Load(graphs=1, sizes=())),),
        min_steps=1, max_steps=2, timeout_s=3.0, runtime=RuntimeSettings(threads=2),
    )  # fmt: skip
    assert spec.key == "dd44648db57fd709"
    old = '{"precision": "bf16", "checkpointing": true, "options": [["heads", 8]]}'
    assert Variant.model_validate_json(old) == BF16


def test_axes_are_read_from_the_command_line():
    assert parse_axes([], precision=None, checkpointing=False) == {"checkpointing": False}
    assert parse_axes(["checkpointing=TRUE", "precision = bf16"]) == {"checkpointing": True, "precision": "bf16"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed=1", f"--axis: got 'speed'; expected one of {', '.join(axis.name for axis in AXES)}. Give NAME=VALUE."),
        ("precision=fp8", "--axis precision: got 'fp8'; expected fp32 or bf16 or fp16. Give NAME=VALUE."),
        ("checkpointing", "--axis checkpointing: got ''; expected false or true. Give NAME=VALUE."),
    ],
)
def test_what_is_no_axis_or_no_value_is_refused(text, message):
    with pytest.raises(InputError) as caught:
        parse_axes([text])
    assert str(caught.value) == message
