import time

import pytest

from compass.doctor.checks import Check, CheckResult, run_checks, within


def fails(message=""):
    def run():
        raise ValueError(message)

    return run


def test_every_check_answers_in_its_place():
    checks = [Check(name, lambda name=name: CheckResult(name, "ok", f"{name} is fine")) for name in ("a", "b", "c")]
    assert [found.says for found in run_checks(checks, limit_s=10)] == ["a is fine", "b is fine", "c is fine"]


def test_a_check_that_fails_itself_is_a_warning():
    good = Check("good", lambda: CheckResult("good", "ok", "fine"))
    assert run_checks([Check("bad", fails("no\nsuch thing")), Check("worse", fails()), good], limit_s=10) == (
        CheckResult(
            "bad",
            "warn",
            "could not be checked: ValueError: no such thing",
            "Please report this as a bug of `compass doctor`.",
        ),
        CheckResult(
            "worse", "warn", "could not be checked: ValueError", "Please report this as a bug of `compass doctor`."
        ),
        CheckResult("good", "ok", "fine"),
    )


def test_a_check_that_hangs_is_a_warning():
    checks = [Check("hung", lambda: time.sleep(60)), Check("good", lambda: CheckResult("good", "ok", "fine"))]
    assert run_checks(checks, limit_s=0.2) == (
        CheckResult(
            "hung", "warn", "no answer within 0.2 s", "Something that it asks hangs, such as a network file system."
        ),
        CheckResult("good", "ok", "fine"),
    )


def test_a_call_within_its_time():
    assert within(10, lambda: 3) == 3
    assert within(0.05, lambda: time.sleep(60)) is None
    with pytest.raises(ValueError, match="wrong"):
        within(10, fails("wrong"))
