"""Weight updates of a plain network: cut, deferred or repeated, always with the same result."""

import copy
from dataclasses import replace

import pytest
import torch

from compass.errors import NonFiniteLoss
from compass.optimizer_config import TrainingRules
from compass.records import Affine, Batch, BytesLaw, Load, Variant
from compass.training.guard import MISTRUST, STALE_S, Guard, batch_of
from compass.training.memory_warmup import warm_up_memory
from compass.training.stream import Item, Position
from compass.training.updates import OutOfMemoryAgain, Updates, running_statistics
from compass.workloads.optimizers import make_optimizer
from compass.workloads.step import WHOLE, UpdatePart, training_step

RULES = TrainingRules()
LAW = BytesLaw(segments=(("step", Affine(base=10.0, per_unit=(("nodes", 1.0),))),), baseline_bytes=90)
NAMES = tuple("abcdefgh")
LOADS = {name: Load(graphs=1, sizes=(("nodes", 10.0 * (i + 1)),)) for i, name in enumerate(NAMES)}
ROWS = dict(zip(NAMES, torch.randn(8, 3, generator=torch.Generator().manual_seed(1)), strict=True))


class Rows:
    """Every sample is a row; the loss is the mean square of the network's outputs."""

    def __init__(self):
        self.fail = 0
        self.sizes = []

    def collate(self, batch):
        return torch.stack([ROWS[name] for name, _ in batch.members])

    def loss(self, model, rows):
        self.sizes.append(len(rows))
        if self.fail:
            self.fail -= 1
            # As it happens in a backward pass: some gradients are there, others are not.
            model.bias.grad = torch.full_like(model.bias, 1e6)
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12 bytes")
        return model(rows).square().mean()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


def updates(model, room=1e9, workload=None, least_batch=1):
    workload = workload or Rows()
    guard = Guard(LAW, LOADS, 1e9, (lambda: room) if not callable(room) else room, least_batch)
    return Updates(workload, model, make_optimizer(workload, model, Variant(), RULES), Variant(), RULES, "cpu", guard)


def take(made, names, part=WHOLE):
    batch = batch_of(names)
    return made.take(Item(batch, part, Position(0, 1)), made.workload.collate(batch))


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_a_batch_that_fits_is_the_step_of_probes(model):
    twin = copy.deepcopy(model)
    loss = take(updates(model), NAMES)
    told = training_step(
        Rows(), twin, make_optimizer(Rows(), twin, Variant(), RULES), Rows().collate(batch_of(NAMES)), Variant(), RULES
    )
    assert loss == told
    assert torch.equal(weights(model), weights(twin))


@pytest.mark.parametrize("room", [450, 300, 200, 181])
def test_a_batch_that_is_cut_gives_the_same_weights(model, room):
    twin = copy.deepcopy(model)
    cut = updates(model, room)
    losses = take(cut, NAMES), take(updates(twin), NAMES)
    assert cut.counts.split == 1
    assert losses[0] == pytest.approx(losses[1])
    torch.testing.assert_close(weights(model), weights(twin))


def test_the_parts_keep_their_order_and_fit():
    guard = Guard(LAW, LOADS, 300, lambda: 1e9)
    fitting, beyond = guard.parts(batch_of(NAMES))
    assert [name for batch in fitting for name, _ in batch.members] == list(NAMES)
    assert all(guard.needs_bytes([name for name, _ in batch.members]) <= 300 for batch in fitting)
    assert beyond == ()


def test_a_sample_too_large_for_now_waits_and_then_counts_as_much(model, monkeypatch):
    monkeypatch.setattr("compass.training.guard.STALE_S", -1)
    free = {"now": 175}
    made = updates(model, lambda: free["now"])
    before = weights(model)
    take(made, ("a", "h"))  # h alone needs 180
    assert made.counts.deferred == 1
    assert [batch.members[0][0] for batch, _ in made.waiting] == ["h"]
    assert made.waiting[0][1] == pytest.approx(0.5)
    free["now"] = 1e9
    take(made, ("b",))
    assert made.waiting == []
    assert made.workload.sizes == [1, 1, 1]
    assert not torch.equal(before, weights(model))


def test_samples_that_never_fit_are_named(model):
    made = updates(model, 175)
    take(made, ("h",))
    made.finish_epoch()
    assert made.counts.skipped == ["h"]
    assert made.waiting == []


class Poisoned(Rows):
    """Its next losses are finite and their gradients are not, or the losses themselves are not."""

    def __init__(self, how):
        super().__init__()
        self.how, self.left = how, 0

    def loss(self, model, rows):
        loss = super().loss(model, rows)
        if not self.left:
            return loss
        self.left -= 1
        # The square root at zero: a distance of an atom to itself.
        return loss + torch.sqrt((model.bias * 0.0).sum()) if self.how == "gradient" else loss * float("nan")


@pytest.mark.parametrize(
    ("how", "said"), [("gradient", "the gradient's norm became nan"), ("loss", "the loss became nan")]
)
def test_an_update_that_is_not_finite_changes_nothing_and_is_counted(model, how, said, caplog):
    workload = Poisoned(how)
    made = updates(model, workload=workload)
    take(made, NAMES)
    before, states = weights(model), copy.deepcopy(made.optimizer.state_dict())
    workload.left = 1
    take(made, NAMES)
    assert made.counts.not_finite == 1
    assert torch.equal(before, weights(model))
    assert str(made.optimizer.state_dict()) == str(states)
    assert f"{said}: this update is left out (1 in a row, 1 in all)" in caplog.text
    take(made, NAMES)
    assert not torch.equal(before, weights(model))
    assert torch.isfinite(weights(model)).all()


def test_one_poisoned_batch_leaves_out_the_whole_update(model):
    workload = Poisoned("loss")
    made, before = updates(model, workload=workload), weights(model)
    workload.left = 1
    take(made, ("a", "b"), UpdatePart(0.5, first=True, last=False))
    take(made, ("c", "d"), UpdatePart(0.5, first=False, last=True))
    assert made.counts.not_finite == 1
    assert torch.equal(before, weights(model))


def test_too_many_in_a_row_end_the_run(model):
    workload = Poisoned("gradient")
    made = updates(model, workload=workload)
    made.rules = TrainingRules(most_not_finite=3)
    workload.left = 2
    for _ in range(3):
        take(made, NAMES)  # the third is whole, and ends the row
    workload.left = 3
    for _ in range(2):
        take(made, NAMES)
    with pytest.raises(NonFiniteLoss, match="the gradient's norm became nan"):
        take(made, NAMES)


def test_running_statistics_are_not_poisoned():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    made = updates(model)
    take(made, NAMES)
    before = [buffer.clone() for buffer in model.buffers()]
    broken = torch.full((4, 3), float("nan"))
    made.take(Item(batch_of(NAMES[:4]), WHOLE, Position(0, 1)), broken)
    assert made.counts.not_finite == 1
    assert all(map(torch.equal, before, model.buffers()))


@pytest.mark.parametrize("behind", [0, 2])
def test_out_of_memory_is_survived_once_with_the_same_weights(model, behind):
    """Also in the middle of an update, whose earlier batches are run again."""
    twin = copy.deepcopy(model)
    made, calm = updates(model), updates(twin)
    told = []
    made.on_out_of_memory = lambda batch, detail: told.append((batch, detail))
    parts = [UpdatePart(0.25, first=i == 0, last=i == 3) for i in range(4)]
    for i, part in enumerate(parts):
        made.workload.fail = int(i == behind)
        names = NAMES[2 * i : 2 * i + 2]
        assert take(made, names, part) == pytest.approx(take(calm, names, part))
    torch.testing.assert_close(weights(model), weights(twin))
    assert made.counts.out_of_memory == 1
    [(batch, detail)] = told
    assert batch == batch_of(NAMES[2 * behind : 2 * behind + 2])
    assert "can't allocate memory" in detail
    assert made.guard.available_bytes() < calm.guard.available_bytes()


@pytest.mark.parametrize(("n_times", "sizes"), [(2, [8, 4, 2, 2, 2, 2]), (3, [8, 4, 2, *[1] * 8])])
def test_halves_that_run_out_of_memory_are_halved_again(model, n_times, sizes):
    twin = copy.deepcopy(model)
    made, calm = updates(model), updates(twin)
    made.workload.fail = n_times
    assert take(made, NAMES) == pytest.approx(take(calm, NAMES))
    torch.testing.assert_close(weights(model), weights(twin))
    assert made.workload.sizes == sizes
    assert made.counts.out_of_memory == n_times


def test_a_model_that_needs_two_samples_is_never_given_one(model):
    made = updates(model, 175, least_batch=2)
    take(made, NAMES)
    assert made.workload.sizes == [2, 2]
    assert made.counts.deferred == 4
    made.finish_epoch()
    assert made.counts.skipped == ["e", "f", "g", "h"]
    made = updates(model, least_batch=2)
    made.workload.fail = 3
    with pytest.raises(OutOfMemoryAgain):
        take(made, NAMES)
    assert made.workload.sizes == [8, 4, 2]


def test_the_smallest_parts_that_run_out_of_memory_end_the_run(model):
    made = updates(model)
    made.workload.fail = 4
    with pytest.raises(
        OutOfMemoryAgain, match=r"^8 graphs ran out of memory, and so did their smallest parts\. Free memory, or run"
    ):
        take(made, NAMES)


def test_what_ran_out_of_memory_has_the_workloads_words(model, caplog):
    made = replace(updates(model), noun="images")
    made.workload.fail = 4
    with pytest.raises(OutOfMemoryAgain, match=r"^8 images ran out of memory, and so did their smallest parts\."):
        take(made, NAMES)
    assert "out of memory on 8 images (" in caplog.text


def test_other_errors_are_not_swallowed(model):
    made = updates(model)
    made.workload.loss = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        take(made, NAMES)


def test_the_budget_falls_and_recovers():
    guard = Guard(LAW, LOADS, 1000, lambda: 1e9)
    guard.record(ok=False)
    assert guard.available_bytes() == pytest.approx(MISTRUST * 1000)
    for _ in range(30):
        guard.record(ok=True)
    assert guard.available_bytes() == 1000


def test_the_system_is_asked_again_after_a_while_and_after_it_ran_out(monkeypatch):
    now_s, answers = [0.0], iter([500, 600, 700])
    monkeypatch.setattr("compass.training.guard.time.monotonic", lambda: now_s[0])
    guard = Guard(LAW, LOADS, 1000, lambda: next(answers))
    assert [guard.available_bytes(), guard.available_bytes()] == [500, 500]
    now_s[0] += 2 * STALE_S
    assert guard.available_bytes() == 600
    guard.record(ok=False)
    assert guard.available_bytes() == pytest.approx(MISTRUST * 700)


def test_with_several_processes_no_sample_waits(model):
    made = updates(model, 175)
    made.several_processes = True
    take(made, ("a", "h"))
    assert made.counts.deferred == 0
    assert made.workload.sizes == [1, 1]


def test_an_update_of_samples_that_all_wait(model):
    made = updates(model, 95)
    loss = take(made, ("a",))
    assert loss == 0.0
    assert len(made.waiting) == 1


def test_buckets_are_a_second_copy_of_the_gradients():
    law = LAW.in_ranks(1000)
    load = LOADS["a"]
    assert law.live(load) - LAW.live(load) == 4000


def test_copies_are_told_apart_from_members(model):
    made = updates(model, 150)
    batch = Batch(members=(("a", 1), ("b", 1), ("c", 1)))
    made.take(Item(batch, UpdatePart(), Position(0, 1)), made.workload.collate(batch))
    assert made.workload.sizes == [2, 1]


class Dropping(Rows):
    """Draws random numbers, and notes what it saw in a buffer, as batch normalisation does."""

    def loss(self, model, rows):
        model.seen += len(rows)
        return super().loss(model, rows) * torch.rand(()).add(1)


def test_the_memory_warm_up_leaves_no_trace(model):
    model.register_buffer("seen", torch.zeros(()))
    other = copy.deepcopy(model)
    made, plain = updates(model, workload=Dropping()), updates(other, workload=Dropping())
    torch.manual_seed(5)
    assert warm_up_memory(made, batch_of("abcdefgh"), "cpu")
    take(made, "ab")
    torch.manual_seed(5)
    take(plain, "ab")
    assert torch.equal(weights(model), weights(other))
    assert model.seen == other.seen == 2
    assert made.workload.sizes == [8, 2]


def test_the_memory_warm_up_skips_batches_that_the_guard_would_cut(model):
    made = updates(model, room=150)
    assert not warm_up_memory(made, batch_of("abcdefgh"), "cpu")
    assert made.workload.sizes == []
    assert made.counts.split == 0


def test_the_memory_warm_up_survives_an_out_of_memory(model):
    workload = Rows()
    workload.fail = 1
    made = updates(model, workload=workload)
    assert not warm_up_memory(made, batch_of("abcd"), "cpu")
    assert made.counts.out_of_memory == 1
    assert workload.sizes == [4, 2, 2]


def test_a_batch_that_was_cut_may_run_out_too(model):
    """Something else takes memory, the guard cuts, and a part still fails: with the same result."""
    twin = copy.deepcopy(model)
    made, calm = updates(model, 300), updates(twin)
    made.workload.fail = 1
    assert take(made, NAMES) == pytest.approx(take(calm, NAMES))
    torch.testing.assert_close(weights(model), weights(twin))
    assert (made.counts.split, made.counts.out_of_memory) == (1, 1)


def test_earlier_parts_of_an_update_are_repeated_whatever_the_guard_allows(model):
    """`h` needs 180 of 185, and after the out-of-memory 166 are trusted: it must not be missing from its update."""
    twin = copy.deepcopy(model)
    made, calm = updates(model, 185), updates(twin)
    for i, part in enumerate([UpdatePart(0.5, last=False), UpdatePart(0.5, first=False)]):
        made.workload.fail = i
        names = (("h",), ("a", "b"))[i]
        assert take(made, names, part) == pytest.approx(take(calm, names, part))
    torch.testing.assert_close(weights(model), weights(twin))
    assert made.waiting == []


def test_a_sample_that_waited_and_runs_out_goes_on_waiting(model, monkeypatch):
    monkeypatch.setattr("compass.training.guard.STALE_S", -1)
    free = {"now": 175}
    made = updates(model, lambda: free["now"])
    take(made, ("h",))
    free["now"] = 1e9

    def ran_out(workload, *args, loss=made.workload.loss):
        made.workload.fail = len(made.workload.sizes) == 1  # the update succeeds, and the waiting sample fails
        return loss(workload, *args)

    monkeypatch.setattr(made.workload, "loss", ran_out)
    take(made, ("a",))
    assert (made.counts.out_of_memory, len(made.waiting)) == (1, 1)
    take(made, ("b",))
    assert (made.counts.out_of_memory, made.waiting) == (1, [])


def test_a_batch_that_fits_exactly_is_whole(model):
    made = updates(model, 100 + sum(range(10, 90, 10)))  # base and baseline, and all rows
    take(made, NAMES)
    assert made.workload.sizes == [8]
    assert made.counts.not_whole == 0


def test_an_update_ends_although_the_samples_of_its_last_batch_wait(model):
    twin = copy.deepcopy(model)
    made, calm = updates(model, 175), updates(twin)
    first, last = UpdatePart(0.5, last=False), UpdatePart(0.5, first=False)
    take(made, ("a", "b"), first)
    take(made, ("h",), last)  # needs 180
    optimizer = calm.optimizer
    training_step(Rows(), twin, optimizer, Rows().collate(batch_of("ab")), Variant(), RULES, part=UpdatePart(0.5))
    assert torch.equal(weights(model), weights(twin))
    assert (made.counts.deferred, made.counts.not_whole) == (1, 1)


def test_an_update_begins_without_gradients_although_the_samples_of_its_first_batch_wait(model):
    twin = copy.deepcopy(model)
    made, calm = updates(model, 175), updates(twin)
    for one in (made, calm):
        take(one, ("a", "b"))  # leaves its gradients
    take(made, ("h",), UpdatePart(0.5, last=False))
    take(made, ("c",), UpdatePart(0.5, first=False))
    take(calm, ("c",), UpdatePart(0.5))
    assert torch.equal(weights(model), weights(twin))


def test_events_that_kept_batches_from_running_whole_are_summed(model):
    made = updates(model, 175)
    take(made, ("a", "g", "h"))  # cut into parts; h waits
    made.workload.fail = 1
    take(made, ("a",))
    counts = made.counts
    assert (counts.split, counts.deferred, counts.out_of_memory, counts.not_whole) == (1, 1, 1, 3)


def test_one_of_several_processes_does_not_repeat_alone(model):
    made = updates(model)
    made.several_processes = True
    made.workload.fail = 1
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        take(made, NAMES)
    assert made.counts.out_of_memory == 0


def test_errors_of_compass_are_no_out_of_memory(model):
    made, error = updates(model), OutOfMemoryAgain("CUDA out of memory")

    def fail(*_):
        raise error

    made.workload.loss = fail
    with pytest.raises(OutOfMemoryAgain):
        take(made, NAMES)
    assert made.counts.out_of_memory == 0


def test_memory_is_released_before_the_smaller_parts(model):
    made, seen = updates(model), []
    made.empty_cache = lambda: seen.append(list(made.workload.sizes))
    made.workload.fail = 1
    take(made, NAMES)
    assert seen == [[8]]


def normalised():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


class FailsBehind(Rows):
    """Memory runs out behind the forward pass, when running statistics have changed."""

    def loss(self, model, rows):
        loss = model(rows).square().mean()
        self.sizes.append(len(rows))
        if self.fail:
            self.fail -= 1
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12 bytes")
        return loss


def test_running_statistics_count_an_interrupted_pass_once():
    made, calm = updates(normalised(), workload=FailsBehind()), updates(normalised())
    made.workload.fail = 1
    take(made, NAMES)
    for part in (UpdatePart(0.5, last=False), UpdatePart(0.5, first=False)):
        take(calm, NAMES[:4] if part.first else NAMES[4:], part)
    for mine, told in zip(made.model.buffers(), calm.model.buffers(), strict=True):
        torch.testing.assert_close(mine, told)


def test_a_poisoned_sample_that_had_waited_leaves_the_update_before_it_alone(monkeypatch):
    monkeypatch.setattr("compass.training.guard.STALE_S", -1)
    free = {"now": 175}
    made = updates(normalised(), lambda: free["now"], least_batch=2)
    clean = updates(normalised(), 175, least_batch=2)  # there it goes on waiting
    for one in (made, clean):
        take(one, ("g", "h"))
    monkeypatch.setitem(ROWS, "h", torch.full((3,), float("nan")))
    free["now"] = 1e9
    for one in (made, clean):
        take(one, ("a", "b"))
    assert (made.counts.not_finite, made.waiting) == (1, [])
    assert all(map(torch.equal, made.model.buffers(), clean.model.buffers()))


def test_updates_win_the_budget_back(model):
    made = updates(model)
    made.workload.fail = 1
    take(made, NAMES)
    mistrusted = made.guard.available_bytes()
    for _ in range(30):
        take(made, NAMES)
    assert mistrusted < made.guard.available_bytes() == 1e9


def test_parts_that_fit_exactly_are_cut_no_further():
    guard = Guard(LAW, LOADS, 100 + 30 + 40, lambda: 1e9)
    assert guard.parts(batch_of("abcd")) == ((batch_of("ab"), batch_of("cd")), ())


def test_a_model_is_trained_on_one_sample_unless_it_says_otherwise():
    assert Guard(LAW, LOADS, 1e9, lambda: 1e9).smaller(batch_of("ab")) == (batch_of("a"), batch_of("b"))
    assert Guard(LAW, LOADS, 1e9, lambda: 1e9, 2).smaller(batch_of("abc")) == (batch_of("abc"),)
    assert Guard(LAW, LOADS, 1e9, lambda: 1e9, 2).smaller(batch_of("abcd")) == (batch_of("ab"), batch_of("cd"))


def test_only_what_a_forward_pass_of_normalising_layers_changes_are_running_statistics(model):
    model.register_buffer("mask", torch.ones(2))
    assert running_statistics(model) == []
    plain = torch.nn.BatchNorm1d(2, track_running_stats=False)
    assert running_statistics(torch.nn.Sequential(model, plain)) == []
    found = running_statistics(torch.nn.Sequential(model, torch.nn.BatchNorm1d(2)))
    assert [tuple(buffer.shape) for buffer in found] == [(2,), (2,), ()]


def test_samples_that_were_left_out_are_warned_of(model, caplog):
    made = updates(model, 175)
    take(made, ("g", "h"))
    made.finish_epoch()
    assert "h did not fit into memory during the whole epoch and was left out" in caplog.messages
