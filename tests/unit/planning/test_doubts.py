"""What the laws are known to miss stands in the plan that rests on them."""

from types import SimpleNamespace

import pytest

from compass.optimizer_config import ProbeRules
from compass.planning.certified_plan import discouraged, doubts
from compass.records import Knobs, Variant

PLAIN = Variant()


SHAPED = Knobs(layers=2, channels=32, variant=PLAIN)


def found(*, memory=0.0, time=0.0, took=1.0, certified=True, spread=0.05, observed=False, about=doubts, knobs=SHAPED):
    of_memory = SimpleNamespace(misfits={PLAIN.of_memory: memory}, observed=lambda _: observed)
    costs = SimpleNamespace(memory=of_memory, time=SimpleNamespace(misfits={PLAIN: time}))
    loads = SimpleNamespace(features=("nodes", "edges"))
    experiment = SimpleNamespace(costs=lambda: costs, config=SimpleNamespace(probe=ProbeRules()), sample_loads=loads)
    choice = SimpleNamespace(knobs=knobs, step_s=1.0)
    run = SimpleNamespace(
        choice=choice, step=SimpleNamespace(median_s=took), known=SimpleNamespace(spread_of=lambda _: spread)
    )
    return about(SimpleNamespace(certified=certified), experiment, run)


def test_a_fixed_model_may_make_sizes_that_its_items_do_not_tell():
    (doubt,) = found(memory=0.04, knobs=Knobs.fixed(PLAIN))
    assert doubt == (
        "memory does not follow nodes and edges alone, which missed a probe by 4%: other sizes that the model makes itself, such as edges "
        "within a distance or items padded to the longest, count if a workload declares them as features"
    )


def test_laws_that_hold_leave_no_doubt():
    assert found(memory=0.01, time=0.05, took=1.1) == ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"memory": 0.04}, "missed a probe by 4%"),
        ({"time": 0.3}, "only within 30%"),
        ({"took": 1.25}, "took 1.25 times as long as predicted"),
        ({"took": 0.8}, "took 0.80 times as long as predicted"),
    ],
)
def test_each_doubt_is_a_sentence(given, words):
    (doubt,) = found(**given)
    assert words in doubt


def test_a_smoke_test_rests_on_no_law():
    assert found(memory=0.5, time=0.5, took=3.0, certified=False) == ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"memory": 0.4}, "memory law that it was chosen by is off by up to 40%"),
        ({"time": 0.3, "took": 1.5}, "time law that it was chosen by is off by 50% here"),
        ({"time": 0.3, "took": 0.7}, "off by 30% here"),
    ],
)
def test_a_plan_whose_law_is_off_by_tens_of_per_cent_is_not_recommended(given, words):
    assert words in found(**given, about=discouraged)


@pytest.mark.parametrize(
    "given",
    [
        {"memory": 0.1, "time": 0.1, "took": 1.5},
        {"time": 0.3, "took": 1.05},  # the form misses others, and met this one
        {"memory": 0.4, "observed": True},  # its own probe is part of its law
        {"memory": 0.4, "time": 0.4, "took": 2.0, "certified": False},
    ],
)
def test_smaller_errors_and_those_of_other_models_discourage_nobody(given):
    assert found(**given, about=discouraged) == ""
