"""One outcome of several ranks, and the end of all when one has failed."""

import threading

import pytest

from compass.probe.ranks import RankPlace, ask_ranks, names_lost_rank, outcome_of_ranks
from compass.records import Batch, Knobs, Outcome, ProbeSpec, RankLoad, RuntimeSettings, Status, StepTime

SPEC = ProbeSpec(
    knobs=Knobs(layers=2, channels=16),
    batches=(Batch(members=(("a", 1),)),),
    min_steps=1,
    max_steps=1,
    timeout_s=1.0,
    runtime=RuntimeSettings(threads=1),
)
LOST = "RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711"


def ok(step_s, footprint_bytes, **more):
    step = StepTime(median_s=step_s, low_s=step_s, high_s=step_s, n_steps=5)
    return Outcome(status=Status.OK, step=step, footprint_bytes=footprint_bytes, enforced=True, **more)


def failed(status, detail):
    return Outcome(status=status, detail=detail)


class FakeWorker:
    """A worker that answers, or waits until it is ended."""

    def __init__(self, answer):
        self.answer, self.ended = answer, threading.Event()

    def ask(self, _rank):
        if self.answer is None:
            self.ended.wait(30)
            return failed(Status.OUT_OF_MEMORY, "killed by the kernel (SIGKILL), as it does when memory runs out")
        return self.answer

    def end(self):
        self.ended.set()


def test_one_rank_has_the_key_of_before():
    assert "ranks" not in repr(SPEC)
    assert SPEC.key != SPEC.model_copy(update={"ranks": 2}).key


def test_each_figure_is_the_worst_ranks():
    found = outcome_of_ranks([ok(1.0, 300, sync_s=0.1, remarks=("a",)), ok(2.0, 200, joined_bytes=7, remarks=("a",))])
    assert (found.step.median_s, found.footprint_bytes, found.sync_s, found.joined_bytes) == (2.0, 300, 0.1, 7)
    assert found.remarks == ("a",)


def test_a_ceiling_is_enforced_if_it_is_on_all_ranks():
    assert outcome_of_ranks([ok(1.0, 1), ok(1.0, 1)]).enforced
    assert not outcome_of_ranks([ok(1.0, 1), ok(1.0, 1).model_copy(update={"enforced": False})]).enforced


@pytest.mark.parametrize("status", [Status.OUT_OF_MEMORY, Status.CRASHED, Status.INVALID, Status.TIMED_OUT])
def test_the_failure_that_explains_the_others_is_told(status):
    cause = failed(status, "the cause")
    found = outcome_of_ranks([failed(Status.INVALID, LOST), cause, failed(Status.INVALID, LOST), None])
    assert (found.status, found.detail) == (status, "rank 1 of 4: the cause")


def test_ranks_that_wait_for_a_failed_one_are_ended():
    workers = [FakeWorker(None), FakeWorker(failed(Status.INVALID, "no"))]
    found = ask_ranks(workers, FakeWorker.ask, mourning_s=0.05)
    assert (found.status, found.detail) == (Status.INVALID, "rank 1 of 2: no")
    assert all(worker.ended.is_set() for worker in workers)


def test_all_are_ended_when_all_have_answered():
    workers = [FakeWorker(ok(1.0, 1)), FakeWorker(ok(1.0, 2))]
    assert ask_ranks(workers, FakeWorker.ask).footprint_bytes == 2
    assert all(worker.ended.is_set() for worker in workers)


def test_all_are_ended_when_one_cannot_be_asked():
    def ask(worker, rank):
        if worker.answer is None:
            return worker.ask(rank)
        raise RuntimeError("no pipe")

    workers = [FakeWorker(None), FakeWorker(ok(1.0, 1))]
    with pytest.raises(RuntimeError, match="no pipe"):
        ask_ranks(workers, ask)
    assert all(worker.ended.is_set() for worker in workers)


def test_the_words_of_a_lost_rank():
    assert names_lost_rank(LOST)
    assert names_lost_rank("NCCL communicator was aborted on rank 1")
    assert not names_lost_rank("RuntimeError: mat1 and mat2 shapes cannot be multiplied")


def test_a_rank_sees_what_torchrun_would_tell_it(tmp_path):
    place = RankPlace(rank=1, n_ranks=2, meeting=tmp_path / "ranks")
    assert place.variables == {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


def test_each_rank_has_its_own_part():
    small = RankLoad(batches=SPEC.batches, timed=SPEC.batches[0], ceiling_bytes=1)
    large = small.model_copy(update={"ceiling_bytes": 2, "batches": (Batch(members=(("a", 3),)),)})
    both = SPEC.model_copy(update={"ranks": 2, "each": (small, large)})
    assert [both.of_rank(rank).ceiling_bytes for rank in range(2)] == [1, 2]
    assert both.of_rank(1).batches == large.batches
    assert both.of_rank(1).each == ()
    assert SPEC.of_rank(1) == SPEC
    assert "each" not in repr(SPEC)
    assert both.key != SPEC.model_copy(update={"ranks": 2}).key
