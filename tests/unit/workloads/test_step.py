import copy
import dataclasses
from collections import UserDict
from typing import NamedTuple

import pytest
import torch

from compass.errors import NonFiniteLoss, Overflow
from compass.optimizer_config import OptimizerConfig, TrainingRules
from compass.records import Batch, Knobs, Variant
from compass.workloads.optimizers import make_optimizer
from compass.workloads.step import UpdatePart, evaluation_step, on_device, training_step
from compass.workloads.visnet import ViSNetWorkload

RULES = TrainingRules()
pytestmark = pytest.mark.usefixtures("one_thread")


class Given:
    """A workload whose loss is the model's mean output times a factor."""

    def loss(self, model, batch):
        rows, factor = batch
        return model(rows).mean() * factor


def test_sparse_gradients_train_unclipped():
    table = torch.nn.Embedding(5, 2, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), 1.0)

    class Looked:
        def loss(self, model, batch):
            return batch[1](model(batch[0]))

    before = table.weight.detach().clone()
    training_step(
        Looked(), table, optimizer, (torch.tensor([0, 3, 3]), lambda rows: 100 * rows.sum()), Variant(), RULES
    )
    assert (before - table.weight)[:, 0].tolist() == pytest.approx([100.0, 0.0, 0.0, 200.0, 0.0], abs=1e-3)
    before = table.weight.detach().clone()
    with pytest.raises(NonFiniteLoss, match="gradient's norm"):
        training_step(
            Looked(), table, optimizer, (torch.tensor([1]), lambda rows: (0 * rows.sum()).sqrt()), Variant(), RULES
        )
    assert torch.equal(before, table.weight)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 1)


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_a_fused_weight_update_computes_the_same(model):
    """In one kernel, so the last digits may differ."""
    twin = copy.deepcopy(model)
    for each, variant in ((model, Variant()), (twin, Variant(fused=True))):
        optimizer = make_optimizer(Given(), each, variant, RULES)
        assert bool(optimizer.defaults["fused"]) == variant.fused
        for _ in range(3):
            training_step(Given(), each, optimizer, (torch.ones(2, 3), 1.0), variant, RULES)
    for plain, fused in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(plain, fused, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("matmul", "expected"), [("full", "high"), ("reduced", "medium")])
def test_matrices_are_multiplied_as_the_variant_says_and_afterwards_as_before(model, matmul, expected):
    seen = []

    class Watching(Given):
        def loss(self, model, batch):
            seen.append(torch.get_float32_matmul_precision())
            loss = super().loss(model, batch)
            if loss.requires_grad:
                loss.register_hook(lambda _: seen.append(torch.get_float32_matmul_precision()))
            return loss

    variant = Variant(matmul=matmul)
    optimizer = make_optimizer(Given(), model, variant, RULES)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # the user's own setting
    try:
        training_step(Watching(), model, optimizer, (torch.ones(2, 3), 1.0), variant, RULES)
        evaluation_step(Watching(), model, (torch.ones(2, 3), 1.0), variant)
        with pytest.raises(NonFiniteLoss):
            training_step(Watching(), model, optimizer, (torch.ones(2, 3), float("nan")), variant, RULES)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == [expected] * 5


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_leaves_everything_as_it_was(model, factor):
    optimizer = make_optimizer(Given(), model, Variant(), RULES)
    training_step(Given(), model, optimizer, (torch.ones(2, 3), 1.0), Variant(), RULES)
    before = weights(model)
    with pytest.raises(NonFiniteLoss, match=r"^the loss became -?(nan|inf)$"):
        training_step(Given(), model, optimizer, (torch.ones(2, 3), factor), Variant(), RULES)
    assert all(map(torch.equal, before, weights(model)))
    assert optimizer.state[model.weight]["step"] == 1


def test_the_step_is_adamw(model):
    """The first one moves each weight by the learning rate, against its gradient's sign, and decays it."""
    before = weights(model)
    optimizer = make_optimizer(Given(), model, Variant(), TrainingRules(learning_rate=0.1))
    loss = training_step(Given(), model, optimizer, (torch.ones(2, 3), 1.0), Variant(), RULES)
    assert isinstance(loss, float)
    for old, new in zip(before, weights(model), strict=True):
        torch.testing.assert_close(new, old * (1 - 0.1 * 0.01) - 0.1)


def test_gradients_are_clipped(model):
    training_step(
        Given(),
        model,
        make_optimizer(Given(), model, Variant(), RULES),
        (torch.ones(2, 3), 1e6),
        Variant(),
        TrainingRules(clip_norm=0.5),
    )
    norm = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    torch.testing.assert_close(norm, torch.tensor(0.5))


class Rows:
    """A workload whose loss is the mean over its rows."""

    def loss(self, model, batch):
        return model(batch).square().mean()


def test_parts_of_an_update_make_the_whole(model):
    twin = copy.deepcopy(model)
    rows = torch.randn(5, 3)
    training_step(Rows(), model, make_optimizer(Given(), model, Variant(), RULES), rows, Variant(), RULES)
    optimizer, parts = make_optimizer(Given(), twin, Variant(), RULES), rows.split([2, 3])
    for i, part in enumerate(parts):
        share = UpdatePart(weight=len(part) / len(rows), first=i == 0, last=i == 1)
        training_step(Rows(), twin, optimizer, part, Variant(), RULES, part=share)
    torch.testing.assert_close(weights(twin), weights(model))


def test_bf16_computes_in_bf16_over_fp32_weights(model):
    seen = []
    model.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    optimizer = make_optimizer(Given(), model, Variant(), RULES)
    training_step(Given(), model, optimizer, (torch.ones(2, 3), 1.0), Variant(precision="bf16"), RULES)
    assert seen == [torch.bfloat16]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert optimizer.state[model.weight]["exp_avg"].dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loss_falls_on_the_sample(precision):
    workload = ViSNetWorkload(OptimizerConfig())
    (sample,) = workload.samples()
    knobs = Knobs(layers=2, channels=16, variant=Variant(options=(("heads", 2), ("lmax", 1), ("rbf", 8))))
    torch.manual_seed(0)
    model = workload.build(knobs)
    optimizer = make_optimizer(Given(), model, Variant(), TrainingRules(learning_rate=3e-3))
    batch = workload.collate(Batch(members=((sample, 1),)))
    losses = [training_step(workload, model, optimizer, batch, Variant(precision=precision), RULES) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]


class Pair(NamedTuple):
    first: object
    second: object


def test_a_tree_of_tensors_goes_to_the_device():
    tree = {"pair": Pair(torch.ones(1), "text"), "list": [torch.ones(2), (torch.ones(3), None)]}
    moved = on_device(tree, "meta")
    assert moved["pair"].first.is_meta
    assert moved["pair"].second == "text"
    assert [item.is_meta for item in (moved["list"][0], moved["list"][1][0])] == [True, True]
    assert moved["list"][1][1] is None


@dataclasses.dataclass(frozen=True)
class Labelled:
    inputs: dict
    label: torch.Tensor


def test_a_dataclass_goes_to_the_device_as_a_copy():
    batch = Labelled(UserDict(x=torch.ones(2)), torch.ones(1))
    moved = on_device(batch, "meta")
    assert (moved.inputs["x"].is_meta, moved.label.is_meta) == (True, True)
    assert not batch.label.is_meta


def test_what_has_a_to_method_moves_itself():
    class Moves:
        def to(self, device):
            return f"moved to {device}"

    assert on_device(Moves(), "meta") == "moved to meta"


FP16 = Variant(precision="fp16")


def trained(model, optimizer, n_updates, factor=1.0):
    """The number of updates that were made; where the scale is too large, none is."""
    n_made = 0
    for _ in range(n_updates):
        try:
            training_step(Given(), model, optimizer, (torch.ones(2, 3), factor), FP16, RULES)
            n_made += 1
        except Overflow:
            pass
    return n_made


def test_fp16_computes_nearly_the_same_and_a_scale_that_is_too_large_leaves_weights_alone(model):
    twin, before = copy.deepcopy(model), weights(model)
    optimizer = make_optimizer(Given(), model, FP16, RULES)
    with pytest.raises(Overflow, match="the scaled gradient's norm became"):
        training_step(Given(), model, optimizer, (torch.ones(2, 3), 100.0), FP16, RULES)
    assert all(torch.equal(now, then) for now, then in zip(weights(model), before, strict=True))
    assert trained(model, optimizer, 20, factor=100.0) < 20
    made = trained(model, optimizer, 5, factor=100.0)
    assert made == 5
    plain = make_optimizer(Given(), twin, Variant(), RULES)
    for _ in range(int(plain_steps(optimizer))):
        training_step(Given(), twin, plain, (torch.ones(2, 3), 100.0), Variant(), RULES)
    for half, full in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(half, full, rtol=1e-2, atol=1e-3)


def plain_steps(optimizer):
    """The updates that the optimizer has made."""
    return next(iter(optimizer.each[0].state.values()))["step"]


def test_a_gradient_that_is_not_finite_in_itself_is_none_of_the_scale(model):
    optimizer = make_optimizer(Given(), model, FP16, RULES)
    with pytest.raises(NonFiniteLoss, match="the loss became -inf"):
        training_step(Given(), model, optimizer, (torch.ones(2, 3), float("inf")), FP16, RULES)

    class Steep(Given):
        def loss(self, model, batch):
            return torch.sqrt(super().loss(model, batch) ** 2 * 0.0)  # zero, with an infinite slope

    caught = []
    for _ in range(20):
        with pytest.raises(NonFiniteLoss) as error:
            training_step(Steep(), model, optimizer, (torch.ones(2, 3), 1.0), FP16, RULES)
        caught.append(type(error.value))
    assert caught[0] is Overflow
    assert caught[-1] is NonFiniteLoss


def test_the_scale_is_part_of_the_state(model):
    optimizer, other = (make_optimizer(Given(), model, FP16, RULES) for _ in range(2))
    trained(model, optimizer, 8, factor=100.0)
    other.load_state_dict(optimizer.state_dict())
    assert other.state_dict()["scaler"] == optimizer.state_dict()["scaler"]
    assert other.state_dict()["scaler"]["scale"] < 65536
