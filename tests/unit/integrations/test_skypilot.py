from dataclasses import dataclass, field

import pytest

import compass
from compass.errors import InputError
from compass.integrations.skypilot import is_card
from compass.profile import write_profile
from compass.units import GIB


@dataclass
class Resources:
    """Stands in for `sky.Resources`."""

    accelerators: dict[str, float] | None = field(default_factory=dict)


@pytest.mark.parametrize(
    ("name", "device", "gib", "same"),
    [
        ("A100", "NVIDIA A100-SXM4-40GB", 39.4, True),
        ("A100", "NVIDIA A100-SXM4-80GB", 79.2, False),
        ("A100-80GB", "NVIDIA A100 80GB PCIe", 79.2, True),
        ("A100-80GB", "NVIDIA A100-SXM4-40GB", 39.4, False),
        ("A10", "NVIDIA A100-SXM4-40GB", 39.4, False),
        ("A10G", "NVIDIA A10G", 22.0, True),
        ("T4", "Tesla T4", 14.7, True),
        ("H100", "NVIDIA H100 80GB HBM3", 79.1, True),
        ("RTX4090", "NVIDIA GeForce RTX 4090", 23.6, True),
        ("L4", "NVIDIA L40S", 44.5, False),
        ("L40S", "NVIDIA L40S", 44.5, True),
        ("V100-32GB", "Tesla V100-SXM2-32GB", 31.7, True),
        ("V100", "Tesla V100-SXM2-32GB", 31.7, False),
    ],
)
def test_cards_by_both_names(name, device, gib, same):
    assert is_card(name, device, int(gib * GIB)) is same


@pytest.fixture
def of(profile):
    """A profile of a card whose training takes so many seconds."""

    def make(name, gib, training_s):
        plan = profile.plans["prototyping"].model_copy(update={"training_s": training_s})
        changes = {"kind": "cuda", "name": name, "total_bytes": int(gib * GIB)}
        hardware = profile.hardware.model_copy(update=changes)
        return profile.model_copy(update={"hardware": hardware, "plans": {"prototyping": plan}})

    return make


def test_the_time_is_that_of_the_card(of, tmp_path):
    write_profile(of("Tesla T4", 14.7, 7200.2), tmp_path / "t4.json")
    estimate = compass.time_estimator([of("NVIDIA A100-SXM4-40GB", 39.4, 1800.0), tmp_path / "t4.json"], "prototyping")
    assert estimate(Resources({"A100": 1})) == 1800
    assert estimate(Resources({"T4": 1})) == 7201


def test_what_was_not_measured_is_refused(of):
    estimate = compass.time_estimator(of("Tesla T4", 14.7, 7200.0), "prototyping")
    for resources, got in (
        (Resources({"H100": 1}), "1 × H100"),
        (Resources({"T4": 4}), "4 × T4"),
        (Resources(None), "no accelerator"),
    ):
        with pytest.raises(InputError) as caught:
            estimate(resources)
        assert str(caught.value) == (
            f"resources: got {got}; expected one card that a profile is of: Tesla T4. "
            "Name measured cards alone in Task.set_resources, or plan on this one and pass its profile too."
        )


def test_a_profile_of_a_cpu_is_for_resources_without_cards(profile):
    plan = profile.plans["prototyping"].model_copy(update={"training_s": 60.0})
    profile = profile.model_copy(update={"plans": {"prototyping": plan}})
    assert compass.time_estimator(profile, "prototyping")(Resources(None)) == 60


def test_a_stage_without_a_plan(profile):
    with pytest.raises(InputError, match="no plan: No model of the large space is fast enough"):
        compass.time_estimator(profile, "validation")
