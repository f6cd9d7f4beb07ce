import json
from types import SimpleNamespace

import pytest
import torch

from compass.device.meter import CpuMeter
from compass.optimizer_config import OptimizerConfig, TrainingRules
from compass.probe import segments as marks
from compass.probe.segments import profiled_step
from compass.records import Batch, Knobs, Load, Variant
from compass.workloads.optimizers import make_optimizer
from compass.workloads.step import training_step
from compass.workloads.visnet import ViSNetWorkload

UNIT = 4 * 1000
"""Bytes of a vector of a thousand floats: what each tensor of the toy holds, losses aside."""
pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = (("heads", 2), ("lmax", 1), ("rbf", 8))


class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(UNIT // 4))

    def forward(self, x):
        return x * self.weight


def scales(n_layers):
    """A step of a model that multiplies its input by `n_layers` vectors, and its segments."""
    model = torch.nn.Sequential(*(Scale() for _ in range(n_layers)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = torch.ones(UNIT // 4)

    def step():
        model(batch).sum().backward()
        optimizer.step()

    return profiled_step(step, model, list(model), optimizer, batch, CpuMeter()).segments


# In vectors and floats. Held: the input and a weight a layer. A layer's forward adds its output; the head adds the
# loss, drops the last output, adds the loss's gradient, and the last layer's gradients before it is known that they
# are complete: one for its weight, one for its input if that needs one. Each layer then drops its output, and the
# loss with its gradient is dropped before the optimizer starts.
BY_HAND = {
    1: [("forward:stem", 2, 0), ("forward:last", 3, 0), ("forward:head", 3, 2), ("backward:last", 3, 2),
        ("optimizer", 3, 0)],
    2: [("forward:stem", 3, 0), ("forward:first", 4, 0), ("forward:last", 5, 0), ("forward:head", 6, 2),
        ("backward:last", 6, 2), ("backward:first", 5, 2), ("optimizer", 5, 0)],
    3: [("forward:stem", 4, 0), ("forward:first", 5, 0), ("forward:early", 6, 0), ("forward:late", 6, 0),
        ("forward:last", 7, 0),
        ("forward:head", 8, 2), ("backward:last", 9, 2), ("backward:early", 8, 2), ("backward:late", 8, 2),
        ("backward:first", 7, 2),
        ("optimizer", 7, 0)],
}  # fmt: skip


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_to_the_byte_as_counted_by_hand(n_layers):
    counted = [(name, vectors * UNIT + floats * 4) for name, vectors, floats in BY_HAND[n_layers]]
    assert list(scales(n_layers)) == counted


def forces(model, blocks):
    """The segments of a step whose loss has the gradient of the answer in it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    positions = torch.ones(UNIT // 4, requires_grad=True)

    def step():
        energy = model(positions).square().sum()
        [force] = torch.autograd.grad(energy, positions, create_graph=True)
        (energy + force.square().sum()).backward()
        optimizer.step()

    return [name for name, _ in profiled_step(step, model, blocks, optimizer, positions, CpuMeter()).segments]


def test_a_gradient_within_the_forward_pass_and_the_pass_through_it_are_places_of_their_own():
    model = torch.nn.Sequential(*(Scale() for _ in range(3)))
    names = forces(model, list(model))
    places = ["last", "early", "late", "first"]
    inner = [f"gradient:{place}" for place in places]
    assert [name for name in names if name.startswith("gradient")] == inner
    assert {name for name in names if name.startswith("second")} == {f"second:{place}" for place in places}
    assert names.index("forward:head") < names.index("gradient:last")
    assert names.index("gradient:first") < names.index("second:first") < names.index("second:last")
    assert names.index("second:last") < names.index("backward:last")


def test_such_a_gradient_is_followed_through_the_parts_of_layers_and_of_what_is_in_none():
    layers = [
        torch.nn.Sequential(Scale(), torch.nn.Sequential(Scale(), torch.nn.Sequential(Scale()))) for _ in range(2)
    ]
    model = torch.nn.Sequential(torch.nn.Sequential(Scale()), torch.nn.Sequential(torch.nn.Sequential(*layers)))
    names = forces(model, layers)
    inner = [name.removeprefix("gradient:") for name in names if name.startswith("gradient")]
    of_layers = [f"{place}{part}" for place in ("last", "first") for part in (".1.1", ".1", "", ".1.0", ".0")]
    assert set(inner) == {*of_layers, "other.1.0", "other.1", "other.0.0", "other.0"}
    assert {name.removeprefix("second:") for name in names if name.startswith("second")} == set(inner)


class Pooled(torch.nn.Module):
    """No layers: what is read out of the atoms' sum costs the same for any number of them."""

    def __init__(self):
        super().__init__()
        self.embed, self.act, self.head = torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 512)

    def forward(self, x):
        return self.head(self.act(self.embed(x)).sum(dim=0))


def pooled(n_atoms):
    torch.manual_seed(0)
    model, batch = Pooled(), torch.ones(n_atoms, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        model(batch).square().sum().backward()
        optimizer.step()

    step()
    profiled_step(step, model, [], optimizer, batch, CpuMeter())  # which cannot see that older gradients are dropped
    return dict(profiled_step(step, model, [], optimizer, batch, CpuMeter()).segments)


def test_each_part_of_a_model_without_layers_is_a_place_of_its_own():
    assert [name for name in pooled(10) if name.startswith("backward")] == [
        "backward:other.head", "backward:stem", "backward:other.act", "backward:other.embed"
    ]  # fmt: skip


def test_where_a_model_without_layers_peaks_is_affine():
    found = {n: pooled(n) for n in (10, 20, 4000)}
    place = max(found[4000], key=found[4000].get)
    per_atom = (found[20][place] - found[10][place]) / 10
    assert found[4000][place] == pytest.approx(found[10][place] + 3990 * per_atom, rel=1e-3)


def test_a_compiled_part_that_takes_no_hooks_is_passed_over():
    model = torch.nn.Sequential(torch.nn.Sequential(Scale(), torch.jit.trace(Scale(), torch.ones(UNIT // 4))))
    assert "gradient:last.0" in forces(model, list(model))


def test_hooks_are_gone_afterwards():
    model = torch.nn.Sequential(Scale(), Scale())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ZeroDivisionError):
        profiled_step(lambda: 1 / 0, model, list(model), optimizer, None, CpuMeter())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model)
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())
    assert not optimizer._optimizer_step_pre_hooks


@pytest.fixture(params=[(1, False), (2, False), (3, False), (4, True)], ids=str)
def visnet(request):
    """A small ViSNet after its first step, and what a step of it needs."""
    layers, checkpointing = request.param
    workload = ViSNetWorkload(OptimizerConfig())
    knobs = Knobs(layers=layers, channels=16, variant=Variant(checkpointing=checkpointing, options=OPTIONS))
    torch.manual_seed(0)
    model = workload.build(knobs)
    optimizer = make_optimizer(workload, model, Variant(), TrainingRules())
    batch = workload.collate(Batch(synthetic=Load(graphs=1, sizes=(("nodes", 40), ("edges", 200)))))

    def step():
        return training_step(workload, model, optimizer, batch, Variant(), TrainingRules())

    step()
    return SimpleNamespace(step=step, model=model, blocks=workload.blocks(model), optimizer=optimizer, batch=batch,
                           layers=layers, checkpointing=checkpointing)  # fmt: skip


def profile(case, batch=None):
    seen = profiled_step(case.step, case.model, case.blocks, case.optimizer, batch or case.batch, CpuMeter())
    return dict(seen.segments)


def total_by_torch(case, path):
    """The peak over what was there before, as torch's own allocator adds it up."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        case.step()
    profiler.export_chrome_trace(str(path))
    events = [e["args"] for e in json.loads(path.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    return max(event["Total Allocated"] for event in events) - events[0]["Total Allocated"] + events[0]["Bytes"]


def test_visnet_to_the_byte_as_torch_counts(visnet, tmp_path):
    segments = profile(visnet)
    held = [*visnet.model.parameters(), *visnet.model.buffers(), *vars(visnet.batch).values()]
    held += [weight.grad for weight in visnet.model.parameters() if weight.grad is not None]
    held += [tensor for state in visnet.optimizer.state.values() for tensor in state.values()]
    held_bytes = sum(tensor.numel() * tensor.element_size() for tensor in held)
    assert max(segments.values()) == held_bytes + total_by_torch(visnet, tmp_path / "trace.json")
    assert profile(visnet) == segments


def test_the_order_of_the_segments(visnet):
    layers = [*(["first"] if visnet.layers > 1 else []), *(["early", "late"] if visnet.layers > 2 else []), "last"]
    backward = layers[::-1] if visnet.layers > 3 else ["last", "early", "late", "first"][: visnet.layers + 1]
    backward = {1: ["last"], 2: ["last", "first"]}.get(visnet.layers, backward)
    names = [name for name in profile(visnet) if not name.startswith("recompute")]
    assert names == [
        "forward:stem", *(f"forward:{layer}" for layer in layers), "forward:head",
        "backward:head", *(f"backward:{layer}" for layer in backward), "backward:stem", "optimizer",
    ]  # fmt: skip


def test_a_checkpointed_layer_has_a_segment_of_its_second_forward_pass(visnet):
    again = [name for name in profile(visnet) if name.startswith("recompute")]
    assert again == (
        ["recompute:last", "recompute:late", "recompute:early", "recompute:first"] if visnet.checkpointing else []
    )


@pytest.mark.parametrize("visnet", [(1, False)], indirect=True)
def test_what_is_held_is_counted_once_wherever_it_hides(visnet):
    """A batch may share storage, and lead back to itself."""
    rows = torch.ones(1000)
    nest = SimpleNamespace(one=rows, views=[rows[:10], {"again": rows.view(10, 100)}], name="batch")
    nest.itself = nest
    plain, nested = profile(visnet, SimpleNamespace(one=rows)), profile(visnet, nest)
    assert nested == plain


class Allocator:
    """A meter of a device that counts for itself: each mark finds the peak since the last."""

    def __init__(self, *peaks):
        self.peaks = list(peaks)

    def peak_live_bytes(self):
        return self.peaks[0]

    def reset_peak(self):
        self.peaks.append(self.peaks.pop(0))


def test_on_an_accelerator_each_segment_has_the_peak_since_its_mark():
    model = torch.nn.Sequential(Scale(), Scale())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step():
        model(torch.ones(UNIT // 4)).sum().backward()
        optimizer.step()

    names = [name for name, _, _ in BY_HAND[2]]
    meter = Allocator(0, *range(1, len(names) + 1))
    assert profiled_step(step, model, list(model), optimizer, None, meter).segments == tuple(
        zip(names, range(1, len(names) + 1), strict=True)
    )


@pytest.mark.parametrize("form", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
def test_a_sparse_tensor_counts_by_its_parts(form):
    dense = torch.eye(8)
    sparse = getattr(dense, form)()
    assert [part.numel() for part in marks._tensors({"adjacency": sparse})] == {
        "to_sparse": [16, 8], "to_sparse_csr": [9, 8, 8], "to_sparse_csc": [9, 8, 8]
    }[form]  # fmt: skip
    assert marks._storage_bytes(marks._tensors([sparse])) == marks._storage_bytes([sparse]) > 0
