from dataclasses import replace

import pytest

from compass.records import STAGES, Candidate, StageFailure, WhatIf
from compass.reporting.evidence import of_profile
from compass.reporting.explain import explain_plan, plan_limits, purchases
from compass.reporting.words import change, limit_words, of_bytes, share
from compass.units import GIB


@pytest.mark.parametrize("stage", STAGES)
def test_the_limit_of_a_plan_is_marked(whole, evidence, stage):
    told, plan = explain_plan(evidence, stage), whole.plans[stage]
    assert told.limited_by == limit_words(plan.limited_by, "")
    limiting = [limit.name for limit in told.limits if limit.limited_by]
    if plan.limited_by in {"memory", "data"}:
        assert limiting == [plan.limited_by]
    if stage == "smoke_test":
        assert limiting == []
    by_name = {limit.name: limit for limit in told.limits}
    assert by_name["memory"].allowed == plan.certificate.ceiling_bytes
    assert by_name["data"].used_share == plan.choice.capacity / whole.data_cap
    assert by_name["batch"].allowed == 950
    if stage in {"prototyping", "validation"}:
        assert by_name["time"].used_share == plan.measured.cycle_s / (whole.config.stages[stage].target_s + 1200)


def test_data_that_bind_a_batch_are_no_limit_of_parameters(whole, evidence):
    plan = whole.plans["prototyping"]
    batch = plan.choice.model_copy(update={"batch_size": 950})
    limits = plan_limits(evidence, plan.model_copy(update={"limited_by": "data", "choice": batch}))
    assert [limit.name for limit in limits if limit.limited_by] == ["batch"]


@pytest.mark.parametrize("stage", ["prototyping", "validation"])
def test_the_terms_are_the_records(whole, evidence, stage):
    plan = whole.plans[stage]
    samples, parameters, total = explain_plan(evidence, stage).score
    assert samples.startswith(
        f"samples {plan.measured.terms.samples:.3f}: {plan.measured.terms.throughput_ratio:.3g} times"
    )
    assert parameters.startswith(
        f"parameters {plan.measured.terms.parameters:.3f}: {plan.measured.terms.capacity_ratio:.3g} times"
    )
    assert total.startswith(f"score {plan.measured.terms.score:.3f}:")
    assert plan.measured.terms.throughput_ratio == pytest.approx(plan.measured.throughput / whole.reference.throughput)


def test_a_stage_that_found_nothing_is_explained_too(tight):
    told = explain_plan(of_profile(tight, "p"), "prototyping")
    failure = tight.failures["prototyping"]
    assert (told.answer, told.why, told.limited_by) == ("nothing found", failure.reason, "Limited by time.")
    assert [one.more for one in told.purchases] == [
        "1.00 GiB more memory", "10.0 min more per cycle", "200,000 more complexes",
    ]  # fmt: skip
    longer = told.purchases[1]
    assert longer.changes
    assert longer.says.endswith("where now no model is admissible")
    assert told.beside[0].startswith("Nearest miss: ")


def test_a_stage_that_is_not_there(whole):
    some = of_profile(whole.model_copy(update={"plans": {}}), "p")
    with pytest.raises(KeyError):
        explain_plan(some, "production")


# ------------------------------------------------------------------------------------------------- predicted gains


def row(layers=2, batch_size=10, capacity=1000, step_s=1.0, score=0.9):
    return Candidate(layers=layers, channels=16 * layers, capacity=capacity, verdict="admissible", batch_size=batch_size,
                     step_s=step_s, score=score)  # fmt: skip


def failure(now, *others):
    found = (WhatIf(change="none", pick=now), *others)
    return StageFailure(stage="production", limited_by="memory", reason="", what_ifs=found)


@pytest.mark.parametrize(
    ("now", "what_if", "more", "says", "changes"),
    [
        (row(), WhatIf(change="memory", amount=GIB, pick=row()), "1.00 GiB more memory",
         "nothing: the same model and batch", False),
        (row(), WhatIf(change="memory", amount=GIB, pick=row(batch_size=12, step_s=1.0)), "1.00 GiB more memory",
         "the same model, batch 10 → 12: 20% more in graphs/s", True),
        (row(), WhatIf(change="memory", amount=GIB, pick=row(batch_size=20, step_s=2.0)), "1.00 GiB more memory",
         "the same model, batch 10 → 20: no faster", True),
        (row(), WhatIf(change="data", amount=19_000, pick=row(3, capacity=2500)), "19,000 more complexes",
         "3 × 48 fp32, batch 10: 2.5 times as much in parameters, no faster", True),
        (row(), WhatIf(change="time", amount=600), "10.0 min more per cycle", "still no admissible model", False),
        (None, WhatIf(change="time", amount=600, pick=row()), "10.0 min more per cycle",
         "2 × 32 fp32, batch 10, where now no model is admissible", True),
    ],
)  # fmt: skip
def test_predicted_gains_in_words(now, what_if, more, says, changes):
    [found] = purchases(failure(now, what_if), "")
    assert (found.more, found.says, found.changes) == (more, says, changes)


def test_a_score_that_changes_is_told_where_one_decides(whole):
    plan = whole.plans["prototyping"]
    now = WhatIf(change="none", pick=row(score=0.9))
    [found] = purchases(
        plan.model_copy(update={"what_ifs": (now, WhatIf(change="time", amount=60, pick=row(3, score=0.8)))}), ""
    )
    assert found.says == "3 × 48 fp32, batch 10: no faster, predicted score 0.900 → 0.800"


# --------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (10, 10.04, "the same"),
        (10, 12, "20% more"),
        (10, 9, "10% less"),
        (10, 34, "3.4 times as much"),
        (0, 5, "the same"),
    ],
)
def test_changes_in_words(before, after, said):
    assert change(before, after) == said


@pytest.mark.parametrize(("value", "said"), [(0.03, "3.0 %"), (0.134, "13 %"), (0, "0 %"), (2.5, "250 %")])
def test_shares_in_words(value, said):
    assert share(value) == said


def test_two_sizes_share_their_unit():
    assert of_bytes(3.5 * GIB, 4 * GIB) == "3.50 of 4.00 GiB"
    assert of_bytes(0.5 * GIB, 4 * GIB) == "512.00 MiB of 4.00 GiB"


def test_the_largest_batch_stands_beside_the_plan(whole, evidence):
    plan = whole.plans["production"]
    larger = plan.predicted_choice.model_copy(update={"batch_size": 999, "allocator": "tight"})
    changed = plan.model_copy(update={"largest_batch": larger})
    found = explain_plan(replace(evidence, plans={**evidence.plans, "production": changed}), "production")
    assert any(
        line.startswith("Largest batch at any price, under tight: ") and "batch 999" in line for line in found.beside
    )


def test_that_a_plan_is_not_recommended_stands_beside_it(whole):
    plan = whole.plans["validation"].model_copy(update={"discouraged": "the time law is off by 40%"})
    plans = {**whole.plans, "validation": plan}
    told = explain_plan(of_profile(whole.model_copy(update={"plans": plans}), "p.json"), "validation")
    assert "Not recommended: the time law is off by 40%." in told.beside


def test_doubts_stand_beside_the_plan(whole):
    doubted = whole.plans["validation"].model_copy(update={"doubts": ("memory laws missed a probe by 4%",)})
    plans = {**whole.plans, "validation": doubted}
    told = explain_plan(of_profile(whole.model_copy(update={"plans": plans}), "p.json"), "validation")
    assert "Memory laws missed a probe by 4%." in told.beside
