"""The workload's own optimizer and step, beside Compass's: what a probe counts is what a plain loop of one's own holds."""

import copy
import math

import pytest
import torch

from compass.device import meter_for
from compass.errors import InputError, NonFiniteLoss
from compass.optimizer_config import TrainingRules
from compass.probe.measure import measure
from compass.records import Batch, Hardware, Knobs, Load, ProbeSpec, RuntimeSettings, Variant
from compass.workloads.optimizers import SeveralOptimizers, as_given, make_optimizer
from compass.workloads.step import training_step

RULES, VARIANT, N = TrainingRules(), Variant(), 32
MAKERS = {
    "AdamW": torch.optim.AdamW,
    "fused": lambda weights: torch.optim.AdamW(weights, fused=True),
    "foreach": lambda weights: torch.optim.AdamW(weights, foreach=True),
    "amsgrad": lambda weights: torch.optim.AdamW(weights, amsgrad=True),
    "SGD": lambda weights: torch.optim.SGD(weights, 0.1),
    "momentum": lambda weights: torch.optim.SGD(weights, 0.1, momentum=0.9),
}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(200, 300), torch.nn.Linear(300, 200)

    def forward(self, x):
        return self.last(self.first(x).tanh())


class Plain:
    """A workload without an optimizer of its own."""

    features = ("samples",)

    def samples(self):
        return {"one": Load(graphs=1, sizes=(("samples", 1.0),))}

    def load(self, batch):
        return batch.load(self.samples())

    def build(self, _):
        return Net()

    def blocks(self, _):
        return []

    def collate(self, batch):
        return torch.ones(int(self.load(batch)["samples"]), 200)

    def loss(self, model, batch):
        return model(batch).square().mean()


class WithOptimizer(Plain):
    def __init__(self, make):
        self.optimizer = lambda model: make(model.parameters())


class Averaging(Plain):
    """Keeps an exponential mean of the weights, in a step of its own."""

    def optimizer(self, model):
        self.mean = copy.deepcopy(model)
        return torch.optim.AdamW(model.parameters())

    def step(self, model, optimizer, batch):
        optimizer.zero_grad()
        loss = self.loss(model, batch)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for mean, weight in zip(self.mean.parameters(), model.parameters(), strict=True):
                mean.lerp_(weight, 0.01)
        return loss.detach()


class Two(Plain):
    """Two optimizers in turn."""

    def optimizer(self, model):
        return [torch.optim.Adam(model.first.parameters()), torch.optim.SGD(model.last.parameters(), 0.1)]

    def step(self, model, optimizer, batch):
        for one in optimizer:
            one.zero_grad()
            self.loss(model, batch).backward()
            one.step()


def live_bytes(workload):
    """As a probe counts them."""
    host = Hardware(
        kind="cpu", name="", driver="", total_bytes=2**34, free_bytes=2**34, others_bytes=0, budget_bytes=2**34
    )
    spec = ProbeSpec(
        knobs=Knobs.fixed(VARIANT), batches=(Batch(members=(("one", N),)),), min_steps=3, max_steps=3, timeout_s=60,
        runtime=RuntimeSettings(threads=1),
    )  # fmt: skip
    rules = TrainingRules(keep_gradients=False)  # as `compass fit` has it
    outcome = measure(spec, workload, "cpu", meter_for("cpu", host), seed=0, training=rules)
    assert outcome.ok, outcome.detail
    assert outcome.left_bytes == 0
    return outcome.live_bytes


def plain_bytes(train):
    """The largest sum of the profiler's memory events over a whole training."""
    with torch.autograd.profiler.profile(use_cpu=True, profile_memory=True, use_kineto=True) as profile:
        train()
    events = [(e.start_ns(), e.nbytes()) for e in profile.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for _, n_bytes in sorted(events):
        now += n_bytes
        most = max(most, now)
    return most


def as_people_write_it(workload, step=None):
    def train():
        model = workload.build(None).train()
        optimizer = workload.optimizer(model)
        for _ in range(3):
            batch = torch.ones(N, 200)
            if step is not None:
                step(model, optimizer, batch)
                continue
            optimizer.zero_grad()
            loss = workload.loss(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            del batch, loss

    return train


@pytest.mark.parametrize("name", MAKERS)
def test_an_optimizer_of_ones_own_is_counted_as_it_is(name):
    workload = WithOptimizer(MAKERS[name])
    assert live_bytes(workload) == pytest.approx(plain_bytes(as_people_write_it(workload)), rel=0.01)


def test_one_with_fewer_states_takes_less():
    amsgrad, adam, momentum = (live_bytes(WithOptimizer(MAKERS[name])) for name in ("amsgrad", "AdamW", "momentum"))
    n_bytes = 4 * sum(weight.numel() for weight in Net().parameters())
    assert amsgrad - adam == pytest.approx(n_bytes, rel=0.02)
    assert adam - momentum > n_bytes


def test_a_mean_of_the_weights_is_counted():
    workload, other = Averaging(), Averaging()
    assert live_bytes(workload) == pytest.approx(plain_bytes(as_people_write_it(other, other.step)), rel=0.01)


def test_two_optimizers_in_turn():
    workload = Two()
    assert live_bytes(workload) == pytest.approx(plain_bytes(as_people_write_it(workload, workload.step)), rel=0.01)


def test_several_are_kept_restored_and_scheduled_as_one():
    made = make_optimizer(Two(), Net(), VARIANT, RULES)
    assert isinstance(made, SeveralOptimizers)
    assert [group["lr"] for group in made.param_groups] == [1e-3, 0.1]
    model = Net()
    one, other = (make_optimizer(Two(), model, VARIANT, RULES) for _ in range(2))
    training_step(Two(), model, one, torch.ones(2, 200), VARIANT, RULES)
    other.load_state_dict(one.state_dict())
    assert other.state_dict()["each"][0]["state"].keys() == one.state_dict()["each"][0]["state"].keys() != set()
    assert as_given(one) == list(one.each)


def test_an_unknown_loss_is_no_number():
    model = Net()
    optimizer = make_optimizer(Two(), model, VARIANT, RULES)
    before = model.last.bias.clone()
    assert math.isnan(training_step(Two(), model, optimizer, torch.ones(2, 200), VARIANT, RULES))
    assert not torch.equal(before, model.last.bias)


def test_a_loss_of_ones_own_step_that_is_not_finite_is_told():
    workload, model = Averaging(), Net()
    optimizer = make_optimizer(workload, model, VARIANT, RULES)
    with pytest.raises(NonFiniteLoss):
        training_step(workload, model, optimizer, torch.full((2, 200), math.nan), VARIANT, RULES)


def test_an_optimizer_that_asks_for_the_loss_needs_a_step_of_the_workload():
    workload = Plain()
    workload.optimizer = lambda model: torch.optim.LBFGS(model.parameters())
    with pytest.raises(InputError) as caught:
        make_optimizer(workload, Net(), VARIANT, RULES)
    assert str(caught.value) == (
        "the workload's optimizer: got LBFGS, whose step asks for the loss again and again; expected an optimizer that updates "
        "weights from gradients, or a workload with a step of its own. "
        "Give the workload `step(model, optimizer, batch)`, which calls `optimizer.step(closure)` and returns the loss."
    )


@pytest.mark.parametrize("made", [None, [], "adam", [torch.nn.Linear(1, 1)]])
def test_what_is_no_optimizer_is_refused(made):
    workload = Plain()
    workload.optimizer = lambda _: made
    with pytest.raises(InputError) as caught:
        make_optimizer(workload, Net(), VARIANT, RULES)
    assert str(caught.value) == (
        f"the workload's optimizer: got {type(made).__name__} {made!r}; expected a torch.optim.Optimizer, or a list of them. "
        "Return from `optimizer(model)` what your training uses."
    )
