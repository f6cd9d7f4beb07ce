"""Every candidate and every probe is on a plot, at the place that its record says, and can be pointed at."""

import math

import pytest

from compass.reporting.candidates import ROLES, candidates_of, roles_of
from compass.reporting.evidence import of_profile
from compass.reporting.predictions import NORMAL_90
from compass.reporting.view import view_of

GIB = 1024**3
STAGES = ("prototyping", "validation", "production")


@pytest.fixture(params=["whole", "tight", "with_data"])
def told(request):
    profile = request.getfixturevalue(request.param)
    return profile, view_of(of_profile(profile, "p.json"))


def figure(view, key):
    return next(one for one in view.figures if one.key == key)


def marks(one, *roles):
    return {
        (series.role, row): (x, y)
        for series in one.series
        if not roles or series.role in roles
        for row, x, y in zip(series.rows, series.x, series.y, strict=True)
    }


def test_figures_are_well_formed(told):
    _, view = told
    keys = [one.key for one in view.figures]
    assert len(set(keys)) == len(keys)
    for one in view.figures:
        table = view.tables[one.table]
        assert all(len(row) == len(table.headers) for row in table.rows)
        for series in one.series:
            assert len(series.x) == len(series.y) == len(series.rows) > 0
            assert all(map(math.isfinite, (*series.x, *series.y)))
            assert set(series.rows) <= set(range(len(table.rows)))
            if series.low:
                assert all(low <= y <= high for low, y, high in zip(series.low, series.y, series.high, strict=True))
            if one.x.scale == "log":
                assert min(series.x) > 0
            if one.y.scale == "log":
                assert min(series.y) > 0
        assert one.says.endswith(".")


@pytest.mark.parametrize("stage", STAGES)
def test_every_candidate_is_on_the_map_of_the_space(told, stage):
    profile, view = told
    entry = profile.plans.get(stage) or profile.failures[stage]
    seen = marks(figure(view, f"{stage}-space"))
    assert sorted(row for _, row in seen) == list(range(len(entry.candidates)))
    for (role, row), (x, y) in seen.items():
        candidate = entry.candidates[row]
        assert (y, x) == (candidate.layers, candidate.channels + 5 * candidate.checkpointing)
        assert role == roles_of(entry, entry.candidates)[row]


@pytest.mark.parametrize("stage", STAGES)
def test_throughput_and_cycle_are_the_records(told, stage):
    profile, view = told
    entry = profile.plans.get(stage) or profile.failures[stage]
    fast, slow = (marks(figure(view, f"{stage}-{what}"), *ROLES) for what in ("throughput", "cycle"))
    assert {row for _, row in fast} == {i for i, row in enumerate(entry.candidates) if row.step_s is not None}
    for (_, row), (x, y) in fast.items():
        candidate = entry.candidates[row]
        assert (x, y) == (candidate.capacity, candidate.batch_size / candidate.step_s)
    for (_, row), (_, y) in slow.items():
        assert y == pytest.approx(entry.candidates[row].step_s * 450 / 60)


def test_the_chosen_is_shown_as_measured_too(whole, view):
    for stage in STAGES:
        plan = whole.plans[stage]
        shown = marks(figure(view, f"{stage}-throughput"), "achieved")
        (before, predicted), (at, y) = sorted(shown.items(), key=lambda one: one[0][1])
        assert predicted == (plan.choice.capacity, pytest.approx(plan.predicted.throughput, rel=1e-5))
        assert view.tables[stage].rows[before[1]][7] == "chosen"
        assert y == (plan.choice.capacity, plan.measured.throughput)
        assert at[1] == len(plan.candidates)
        assert view.tables[stage].rows[at[1]][7] == "chosen, as measured"


def test_front_and_runners_up_are_marked(whole, view):
    for stage in STAGES:
        plan = whole.plans[stage]
        one = figure(view, f"{stage}-throughput")
        for role, choices in (("front", plan.front), ("runner_up", plan.runners_up)):
            rows = {row for _, row in marks(one, role)}
            expected = {(choice.knobs.layers, choice.knobs.channels) for choice in choices}
            assert {(plan.candidates[row].layers, plan.candidates[row].channels) for row in rows} == expected


def test_whatever_is_ruled_out_says_why(told):
    profile, view = told
    for stage in STAGES:
        entry = profile.plans.get(stage) or profile.failures[stage]
        for candidate, row in zip(entry.candidates, view.tables[stage].rows, strict=False):
            assert bool(row[8]) == (candidate.verdict not in {"chosen", "admissible"})
            assert row[0] == f"{candidate.layers} × {candidate.channels} fp32"


def test_the_tight_machine_shows_every_kind_of_reason(tight):
    kinds = {row.verdict for one in (*tight.plans.values(), *tight.failures.values()) for row in one.candidates}
    assert kinds == {"chosen", "admissible", "memory", "time", "batch", "data", "space"}


def test_predictions_lie_where_their_records_say(whole, view):
    notes = [note for note in whole.probe_log if note.expected]
    memory, time = figure(view, "memory"), figure(view, "time")
    bounds, footprints, ratios = marks(memory, "bound"), marks(memory, "measured"), marks(time, "measured")
    interval = next(series for series in time.series if series.role == "bound")
    assert len(bounds) == len(notes)
    for row, note in enumerate(notes):
        assert bounds["bound", row][1] == note.expected.footprint_bound_bytes / GIB
        assert footprints["measured", row][1] == note.footprint_bytes / GIB
        assert memory.x.labels[row] == view.tables["predictions"].rows[row][0]
        assert (("measured", row) in ratios) == (note.phase != "calibrate")
        if note.phase == "calibrate":
            assert note.expected.step_s is None
            continue
        assert ratios["measured", row][1] == note.step.median_s / note.expected.step_s
        factor, place = math.exp(NORMAL_90 * note.expected.spread), interval.rows.index(row)
        assert (interval.low[place], interval.high[place]) == pytest.approx((1 / factor, factor))
    assert memory.rules[0].value == whole.hardware.budget_bytes / GIB


def test_the_search_has_a_bar_for_every_probe(whole, view):
    one = figure(view, "search")
    assert {row: y for (_, row), (_, y) in marks(one).items()} == {
        i: note.wall_s for i, note in enumerate(whole.probe_log)
    }
    assert {role for role, _ in marks(one)} <= {"calibrate", "search", "certify", "failed"}


def test_the_sizes_are_the_histograms(with_data):
    view = view_of(of_profile(with_data, "p.json"))
    for one in with_data.dataset.sizes:
        drawn = figure(view, f"sizes-{one.feature}")
        assert drawn.series[0].y == tuple(count for _, count in one.histogram)
        low, ratio = one.histogram[0][0], one.histogram[1][0] / one.histogram[0][0]
        worst = with_data.plans["production"].certificate.worst
        for size, name in ((one.mean, "mean"), (worst[one.feature] / worst.graphs, "mean of the worst batch")):
            near = [
                rule for rule in drawn.rules if abs(math.log(size / low) / math.log(ratio) - 0.5 - rule.value) < 0.6
            ]
            assert any(name in rule.label for rule in near)
            assert f"{size:,.0f}" in drawn.says


def test_an_older_profile_shows_what_it_names(whole):
    plan = whole.plans["prototyping"].model_copy(update={"candidates": ()})
    evidence = of_profile(whole.model_copy(update={"plans": {"prototyping": plan}}), "p.json")
    rows = candidates_of(evidence, "prototyping")
    assert rows[0].verdict == "chosen"
    assert {(row.layers, row.channels) for row in rows} >= {(c.knobs.layers, c.knobs.channels) for c in plan.runners_up}
