"""How long, how safe, what next: the sentences of a plan."""

from pathlib import Path

import pytest

from compass.records import StageFailure
from compass.reporting.answers import (
    epoch_words,
    headline,
    least_limit_bytes,
    memory_words,
    model_words,
    next_commands,
    training_words,
)
from compass.units import GIB, format_duration


@pytest.fixture
def plan(profile):
    return profile.plans["prototyping"].with_times(19_000, 100)


def test_a_plan_in_sentences(plan, profile):
    assert model_words(plan) == (
        "6 layers × 128 channels, 96,000 parameters, in batches of 32 graphs, 2 batches per weight update"
    )
    assert epoch_words(plan, 19_000) == "an epoch of 19,000 complexes takes 20 min"
    assert training_words(plan, 19_000, profile.config) == (
        "at 16 graphs/s an epoch of 19,000 complexes takes 20 min, 100 epochs 33.0 h"
    )
    assert memory_words(plan) == "memory peaks at 1.32 of 4.00 GiB, proven by 12 steps under that limit"
    assert headline(plan, 19_000) == (
        "On this machine you can train 96,000 parameters: an epoch of 19,000 complexes takes 20 min; "
        "memory peaks at 1.32 of 4.00 GiB, proven by 12 steps under that limit."
    )


def test_what_makes_a_promise_weaker_is_said(plan, profile):
    hint = plan.model_copy(update={"indicative": True})
    assert training_words(hint, 19_000, profile.config).endswith("33.0 h (indicative only)")
    loose = plan.model_copy(update={"certificate": plan.certificate.model_copy(update={"enforced": False})})
    assert (
        memory_words(loose)
        == "memory peaks at 1.32 of 4.00 GiB, measured in 12 steps, though nothing enforced that limit"
    )
    many = plan.certificate.model_copy(update={"evaluated": plan.certificate.batches[:1]})
    assert memory_words(plan.model_copy(update={"certificate": many})).endswith(", the largest batches among them")


def test_times_follow_the_recommended_batches(plan, profile):
    old = plan.model_copy(update={"epoch_s": None, "training_s": None})  # of Compass 0.1
    assert training_words(old, 19_000, profile.config) == training_words(plan, 19_000, profile.config)


def test_the_next_commands_name_the_users_files(profile, tmp_path):
    commands = [text for text, _ in next_commands(profile, Path("hardware_profile.json"))]
    assert commands == ["compass train --stage prototyping --dataset YOUR_DATASET", "compass report", "compass verify"]
    own = profile.model_copy(update={"asked": profile.asked.model_copy(update={"settings": {"dataset.path": "/data"}})})
    commands = [text for text, _ in next_commands(own, Path("my plan.json"))]
    assert commands[0] == "compass train --stage prototyping --profile 'my plan.json'"
    assert commands[1:] == ["compass report 'my plan.json'", "compass verify --profile 'my plan.json'"]


def failed(profile, n_bytes, limited_by="memory"):
    nearest = profile.failures["validation"].nearest.model_copy(update={"footprint_bound_bytes": n_bytes})
    return StageFailure(stage="production", limited_by=limited_by, reason="", nearest=nearest)


def test_where_memory_was_too_small_the_least_limit_is_named(profile):
    assert least_limit_bytes(profile.failures.values()) is None  # time was the reason
    assert least_limit_bytes([failed(profile, 4 * GIB + 1), failed(profile, 4 * GIB)]) == 4.25 * GIB
    small = profile.model_copy(update={"plans": {}, "failures": {"production": failed(profile, 5 * GIB)}})
    assert next_commands(small, Path("p.json")) == [
        (
            "compass optimize --stage production --memory-limit 5GiB",
            "by its bound, the nearest miss fits under this limit",
        )
    ]


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0.25, "250 ms"),
        (8.04, "8.0 s"),
        (40, "40 s"),
        (1300, "22 min"),
        (5400, "1.5 h"),
        (396_000, "4.6 days"),
        (9e7, "1,042 days"),
    ],
)
def test_durations_as_people_say_them(seconds, says):
    assert format_duration(seconds) == says
