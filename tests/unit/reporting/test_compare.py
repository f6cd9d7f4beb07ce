import pytest

from compass.optimizer_config import OptimizerConfig
from compass.reporting.compare import compare_profiles
from compass.reporting.evidence import of_profile


def compared(a, b):
    return compare_profiles(of_profile(a, "a.json"), of_profile(b, "b.json"))


def changed(profile, **changes):
    return profile.model_copy(update=changes)


def test_a_profile_is_like_itself(whole):
    found = compared(whole, whole)
    assert (found.surroundings, found.missing) == ((), ())
    for stage in found.stages:
        assert all(row[1] == row[2] for row in stage.table.rows)
        assert stage.says[0].endswith("the same model")


def test_files_of_one_name_are_told_apart(evidence):
    assert compare_profiles(evidence, evidence).names == ("p.json (first)", "p.json (second)")


def test_machines_versions_and_settings_in_words(whole):
    hardware = whole.hardware.model_copy(update={"name": "H100 80GB", "budget_bytes": 2 * whole.hardware.budget_bytes})
    prints = whole.fingerprint.model_copy(update={"device": "H100 80GB", "torch": "9.9", "workload": "other"})
    other = changed(
        whole, hardware=hardware, fingerprint=prints, dataset_size=2_000, data_cap=400_000,
        config=whole.config.model_copy(update={"cycle_batches": 100}), workload="painn", compass_version="9.0",
    )  # fmt: skip
    assert compared(whole, other).surroundings == (
        "device: A100 40GB (cuda) → H100 80GB (cuda)",
        "memory budget: 38.00 GiB → 76.00 GiB, 2.0 times as much",
        "torch: simulated → 9.9",
        "the workload's code, options or samples differ",
        "workload: visnet → painn",
        f"Compass: {whole.compass_version} → 9.0",
        "complexes: 19,000 → 2,000, 89% less",
        "data cap in parameters: 917,444 → 400,000, 56% less",
        "setting cycle_batches: 450 → 100",
    )


def test_many_settings_are_counted(whole):
    other = OptimizerConfig().model_copy(update={"stages": whole.config.stages})
    probe = other.probe.model_copy(update={name: 99 for name, value in other.probe if type(value) is int})
    space = other.space.model_copy(update={"options": {f"o{i}": i for i in range(9)}})
    found = compared(whole, changed(whole, config=other.model_copy(update={"probe": probe, "space": space})))
    assert found.surroundings[-1].startswith("and ")
    assert found.surroundings[-1].endswith(" more settings")


def test_stages_in_words(whole, tight):
    found = {one.stage: one for one in compared(whole, tight).stages}
    assert found["prototyping"].says == ("Prototyping: only A has a plan",)
    choice = whole.plans["prototyping"].choice
    told = f"{choice.knobs.layers} × {choice.knobs.channels} fp32, batch {choice.batch_size}"
    assert ("choice", told, "nothing found") in found["prototyping"].table.rows
    first, second = whole.plans["production"], tight.plans["production"]
    says = found["production"].says
    assert says[0].startswith(f"Production: {first.choice.knobs.layers} × {first.choice.knobs.channels} fp32 → ")
    assert f"{first.measured.throughput:,.0f} → " in says[1]
    assert (first.limited_by != second.limited_by) == (len(says) == 3)
    turned = {one.stage: one for one in compared(tight, whole).stages}
    assert turned["prototyping"].says == ("Prototyping: only B has a plan",)


def test_what_one_lacks_is_said(whole):
    found = compared(whole, changed(whole, plans={"production": whole.plans["production"]}))
    assert found.missing == ("b.json: Not in this profile: smoke_test, prototyping, validation.",)
    by_stage = {one.stage: one for one in found.stages}
    assert by_stage["validation"].table.rows[0] == (
        "choice",
        by_stage["validation"].table.rows[0][1],
        "not in this profile",
    )


@pytest.mark.parametrize("stage", ["prototyping", "production"])
def test_the_table_is_the_plans(whole, stage):
    plan = whole.plans[stage]
    rows = {row[0]: row[1] for one in compared(whole, whole).stages if one.stage == stage for row in one.table.rows}
    assert rows["parameters"] == f"{plan.choice.capacity:,}"
    assert rows["limited by"] == plan.limited_by
