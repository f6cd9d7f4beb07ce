"""How long a whole run still takes: later parts at the pace of those that are over, never less than nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.planning.forecast import EXPECTED_CERTIFY_S, EXPECTED_S, FASTEST, SLOWEST, Forecast, stage_part

GROUPS = [["smoke_test"], ["production"], ["prototyping", "validation"]]
PARTS = [
    "start", "runtime", "memory", "certify smoke_test", "times", "allocators", "certify production", "search prototyping",
    "search validation", "certify prototyping", "certify validation",
]  # fmt: skip


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def run(forecast, clock, factor):
    """Let every part take `factor` times as long as expected; (true rest, forecast) at the beginning of each."""
    expected = dict(forecast._expected_s)
    assert list(expected) == PARTS
    found = []
    for i, part in enumerate(PARTS):
        left_s = forecast.enter(part)
        found.append((factor * sum(expected[later] for later in PARTS[i:]), left_s))
        clock.now_s += factor * expected[part]
    return found


@pytest.mark.parametrize("factor", [0.2, 0.5, 1.0, 3.0, 8.0])
def test_a_machine_of_any_speed_is_known_after_its_calibration(clock, factor):
    for place, (true_s, left_s) in enumerate(run(Forecast(GROUPS, clock=clock), clock, factor)):
        if place > PARTS.index("times"):
            assert true_s / 1.5 <= left_s <= 1.5 * true_s


def test_a_part_that_is_overdue_slows_all_later_ones(clock):
    forecast = Forecast(GROUPS, clock=clock)
    forecast.enter("memory")
    before_s = forecast.left_s()
    clock.now_s += 4 * EXPECTED_S["memory"]
    assert forecast.left_s() > before_s
    assert forecast.enter("memory", 0.5) > before_s  # half of it took twice of the whole


def test_what_is_predicted_replaces_what_was_expected(clock):
    forecast = Forecast(GROUPS, clock=clock)
    before_s = forecast.left_s()
    forecast.expect(stage_part("certify", "production"), EXPECTED_CERTIFY_S + 500)
    assert forecast.left_s() == pytest.approx(before_s + 500)
    forecast.enter(stage_part("certify", "production"))
    clock.now_s += 545
    forecast.expect(stage_part("certify", "production"), 50)  # a second round
    later = PARTS[PARTS.index("search prototyping") :]
    after_s = forecast.left_s() - sum(forecast.pace(part) * forecast._expected_s[part] for part in later)
    assert after_s == pytest.approx(50, rel=0.2)
    forecast.expect("certify nothing", 1e9)  # not a part of this run
    assert forecast.left_s() < 1e4


def as_expected(forecast, clock, until):
    """Let every part before `until` take what is expected of it."""
    for part in PARTS[: PARTS.index(until)]:
        forecast.enter(part)
        clock.now_s += forecast._expected_s[part]


def test_a_prediction_that_errs_teaches_the_others_that_are_predicted(clock):
    forecast = Forecast(GROUPS, clock=clock)
    certificates = [stage_part("certify", stage) for stage in ("production", "prototyping", "validation")]
    for part in certificates:
        forecast.expect(part, 100.0)
    as_expected(forecast, clock, certificates[0])
    forecast.enter(certificates[0])
    clock.now_s += 200.0
    forecast.enter("search prototyping")
    assert 1.5 < forecast.pace(certificates[2]) < 2.0
    assert forecast.pace("search validation") == pytest.approx(1.0)  # a guess
    forecast.expect(certificates[2], 100.0)  # predicted anew, with the same error
    assert 1.5 < forecast.pace(certificates[2]) < 2.0


def test_one_part_that_hangs_says_little_of_the_others(clock):
    forecast = Forecast(GROUPS, clock=clock)
    as_expected(forecast, clock, "runtime")
    before_s = forecast.enter("runtime")
    clock.now_s += 9 * EXPECTED_S["runtime"]
    assert forecast.enter("memory") < 3 * before_s


def test_unequal_steps_of_a_part_do_not_slow_the_others(clock):
    forecast = Forecast(GROUPS, clock=clock)
    as_expected(forecast, clock, "times")
    forecast.enter("times")
    clock.now_s += EXPECTED_S["times"] / 2
    before = forecast.pace("certify production")
    forecast.enter("times", 0.1)
    assert forecast.pace("certify production") == before
    forecast.enter("times", 0.9)
    assert forecast.pace("certify production") < before


def test_a_fresh_process_starts_as_those_before_it(clock):
    forecast = Forecast(GROUPS, clock=clock)
    assert forecast.start_s == EXPECTED_S["start"]
    clock.now_s += 14.0
    forecast.enter("runtime")
    assert forecast.start_s == 14.0
    forecast.started(20.0)
    forecast.started(30.0)
    assert forecast.start_s == 25.0
    forecast.started(-1.0)  # the seconds of a simulated step
    assert forecast.start_s == pytest.approx(50 / 3)


def test_parts_that_did_not_happen_are_forgotten(clock):
    forecast = Forecast([["production"]], clock=clock)
    assert forecast.enter(stage_part("certify", "production")) <= EXPECTED_CERTIFY_S * 1.01
    assert forecast.enter(stage_part("search", "validation")) <= EXPECTED_CERTIFY_S * 1.01  # of another run


def test_the_place_of_a_stage():
    forecast = Forecast(GROUPS)
    assert forecast.place("production") == "stage 2 of 4, production"
    assert forecast.place(None) == Forecast([["validation"]]).place("production") == ""


@given(st.lists(st.tuples(st.sampled_from([*PARTS, "elsewhere"]), st.floats(0, 1000), st.floats(0, 1)), max_size=20))
def test_it_is_never_less_than_nothing(steps):
    clock = Clock()
    forecast = Forecast(GROUPS, clock=clock)
    for part, took_s, share in steps:
        assert forecast.enter(part, share) >= 0
        clock.now_s += took_s
        assert forecast.left_s() >= 0
        assert all(FASTEST <= forecast.pace(part) <= SLOWEST for part in PARTS)
