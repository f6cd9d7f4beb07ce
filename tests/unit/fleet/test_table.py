import pytest

from compass.fleet.record import FleetRecord, KindRecord
from compass.fleet.table import FleetCell, fleet_table, recommend


def cell(kind, training_s, *, capacity=100, price=None, within_target=True, stage="prototyping"):
    return FleetCell(
        stage=stage,
        kind=kind,
        capacity=capacity,
        training_s=training_s,
        price=price,
        within_target=within_target,
        is_proven=True,
    )


def test_fastest_and_cheapest_differ():
    one = recommend("prototyping", [cell("fast", 10, price=5), cell("cheap", 30, price=1)], equal_share=0.02)
    assert (one.fastest, one.cheapest, one.beyond_target) == ("fast", "cheap", False)


def test_the_cheapest_is_within_the_target():
    cells = [cell("fast", 10, price=5), cell("cheap", 30, price=1, within_target=False)]
    assert recommend("prototyping", cells, equal_share=0.02).cheapest == "fast"
    late = [one.model_copy(update={"within_target": False}) for one in cells]
    one = recommend("prototyping", late, equal_share=0.02)
    assert (one.cheapest, one.beyond_target) == ("cheap", True)


def test_in_production_a_smaller_model_does_not_compete():
    cells = [cell("large", 50, capacity=1000), cell("equal", 40, capacity=985), cell("small", 10, capacity=500)]
    one = recommend("production", cells, equal_share=0.02)
    assert (one.fastest, one.why) == ("equal", "small can only hold a smaller model")
    assert recommend("validation", cells, equal_share=0.02).fastest == "small"


def test_without_prices_nothing_is_cheapest_and_without_plans_nothing_is_fastest():
    assert recommend("smoke_test", [cell("a", 1)], equal_share=0.02).cheapest is None
    none = recommend("smoke_test", [FleetCell(stage="smoke_test", kind="a")], equal_share=0.02)
    assert (none.fastest, none.why) == (None, "no kind has a plan")


def test_price_and_energy_of_a_training(profile):
    plan = profile.plans["prototyping"].model_copy(update={"epoch_s": 36.0, "training_s": 3600.0})
    profile = profile.model_copy(update={"plans": {**profile.plans, "prototyping": plan}})
    kinds = (
        KindRecord(name="a", device="A", nodes=("n",), price_per_hour=2.5, power_w=400.0, profile="a.json"),
        KindRecord(name="b", device="B", nodes=("m",), failure="no worker started"),
    )
    record = FleetRecord(compass_version="1", created="now", engine="local", currency="EUR", kinds=kinds)
    table = fleet_table(record, {"a": profile})
    cells = {(one.stage, one.kind): one for one in table.cells}
    found = cells["prototyping", "a"]
    assert (found.price, found.energy_kwh, found.is_proven) == (2.5, pytest.approx(0.4), True)
    assert found.within_target  # 900 s of 20 minutes
    assert cells["validation", "a"].reason == "No model of the large space is fast enough."
    assert cells["validation", "a"].limited_by == "time"
    assert cells["prototyping", "b"].reason == "no worker started"
    assert [one.stage for one in table.recommendations] == ["smoke_test", "prototyping", "validation"]
