import logging

import pytest

from compass.errors import InputError
from compass.probe.recorded import Recall, Recorded
from compass.probe.store import Store
from compass.profile import ProbeCosts
from compass.records import Status, StepTime


class Runner:
    """Answers in turn, and remembers what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def probe(self, spec):
        self.asked.append(spec)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "probes.jsonl")
    yield store
    store.close()


def test_asked_once_answered_ever_after(tmp_path, store, ask, found):
    runner = Runner(found(n_steps=5))
    recorded = Recorded(runner, store, "f1")
    assert recorded.probe("search", ask()) == Recall(found(n_steps=5), reused=False)
    assert recorded.probe("search", ask()) == Recall(found(n_steps=5), reused=True)
    again = Recorded(runner, Store(tmp_path / "probes.jsonl"), "f1")
    assert again.probe("certify", ask()) == Recall(found(n_steps=5), reused=True)
    assert runner.asked == [ask()]
    assert recorded.counts == {"search_probes": 1, "search_steps": 5, "out_of_memory": 0, "reused": 1}
    assert again.counts == {"reused": 1}


def test_another_machine_is_asked_anew(store, ask, found):
    runner = Runner(found(), found(detail="other"))
    Recorded(runner, store, "f1").probe("search", ask())
    assert Recorded(runner, store, "f2").probe("search", ask()).outcome.detail == "other"


def test_a_runner_prepares_for_what_is_not_known(store, ask, found):
    runner = Runner(found())
    recorded = Recorded(runner, store, "f1")
    recorded.prepare([ask()])  # this one does not prepare
    recorded.probe("search", ask())
    prepared = []
    runner.prepare = prepared.extend
    recorded.prepare([ask(), ask(layers=4)])
    recorded.prepare([ask()])
    assert prepared == [ask(layers=4)]


@pytest.mark.parametrize("status", [Status.TIMED_OUT, Status.CRASHED, Status.INVALID, Status.OUT_OF_MEMORY])
def test_what_may_have_been_chance_is_tried_again_by_the_next_run(store, ask, found, status):
    """Without a ceiling, another program may have held the memory."""
    runner = Runner(found(status), found())
    recorded = Recorded(runner, store, "f1")
    assert [recorded.probe("search", ask()).outcome.status for _ in range(2)] == [status, status]
    assert len(runner.asked) == recorded.counts["reused"] == 1
    assert Recorded(runner, store, "f1").probe("search", ask()).outcome.ok


def test_what_ran_out_under_a_ceiling_is_believed(store, ask, found):
    spec = ask().model_copy(update={"ceiling_bytes": 2**30})
    Recorded(Runner(found(Status.OUT_OF_MEMORY, enforced=True)), store, "f1").probe("certify", spec)
    assert Recorded(Runner(), store, "f1").probe("certify", spec).outcome.status is Status.OUT_OF_MEMORY


def test_without_a_store_everything_is_asked(ask, found):
    runner = Runner(found(), found())
    recorded = Recorded(runner, None, "f1")
    for _ in range(2):
        recorded.probe("calibrate", ask())
    assert len(runner.asked) == 2


def test_the_ledger_takes_the_counts(store, ask, found):
    outcomes = [found(n_steps=3), found(Status.OUT_OF_MEMORY, n_steps=1), found(n_steps=9)]
    recorded = Recorded(Runner(*outcomes), store, "f1")
    for layers, phase in enumerate(("calibrate", "search", "certify"), start=1):
        recorded.probe(phase, ask(layers))
    assert recorded.probes == [(ask(layers), outcome) for layers, outcome in enumerate(outcomes, start=1)]
    assert ProbeCosts(**recorded.counts) == ProbeCosts(
        calibrate_probes=1, calibrate_steps=3, search_probes=1, search_steps=1, certify_probes=1, certify_steps=9,
        out_of_memory=1,
    )  # fmt: skip


@pytest.mark.parametrize("error", [InputError("memory limit", got="1", expected="2", fix="3"), KeyboardInterrupt()])
def test_what_was_not_answered_is_not_written(store, ask, error):
    class Refuses:
        def probe(self, spec):
            raise error

    recorded = Recorded(Refuses(), store, "f1")
    with pytest.raises(type(error)):
        recorded.probe("certify", ask())
    assert store.find("f1", ask()) is None
    assert recorded.probes == []


def test_every_probe_is_logged(store, ask, found, caplog):
    """Those answered from the store too."""
    caplog.set_level(logging.DEBUG, logger="compass")
    recorded = Recorded(Runner(found(), found(Status.CRASHED, "died of SIGSEGV")), store, "f1")
    for layers in (1, 1, 2):
        recorded.probe("search", ask(layers))
    load = "1 graph, 10 nodes, 50 edges"
    good = f"1 layers × 16 channels, fp32 on {load}: 500 ms per step, 1.00 MiB live, 2.00 MiB footprint"
    assert [record.message for record in caplog.records] == [
        f"search {ask(1).key} {good}",
        f"search {ask(1).key} {good}",
        f"search {ask(2).key} 2 layers × 16 channels, fp32 on {load}: crashed: died of SIGSEGV",
    ]


def timed(median_s):
    return StepTime(median_s=median_s, low_s=median_s, high_s=median_s, n_steps=5)


def test_two_runs_of_a_probe_count_as_the_calmer_time_and_the_larger_footprint(tmp_path, store, ask, found):
    slow = found(step=timed(0.9), footprint_bytes=200, n_steps=13)
    calm = found(step=timed(0.5), footprint_bytes=100, n_steps=8)
    recorded = Recorded(Runner(slow, calm), store, "f1")
    recorded.probe("certify", ask())
    both = recorded.again("certify", ask())
    assert (both.step, both.footprint_bytes, both.n_steps) == (timed(0.5), 200, 21)
    assert recorded.probes == [(ask(), both)]
    assert recorded.counts["certify_probes"] == 2
    assert Recorded(Runner(), Store(tmp_path / "probes.jsonl"), "f1").probe("certify", ask()).outcome == both


def test_what_fails_the_second_time_failed(store, ask, found):
    full = found(Status.OUT_OF_MEMORY, "the allocator's")
    recorded = Recorded(Runner(found(), full), store, "f1")
    recorded.probe("certify", ask())
    assert recorded.again("certify", ask()) == full
    assert recorded.counts["out_of_memory"] == 1
