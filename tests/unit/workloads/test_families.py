"""What every family on complexes promises; ViSNet's own tests hold it against PyG's model."""

import dataclasses

import numpy as np
import pytest
import torch

from compass.data.graphs.bench import Bench
from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig, TrainingRules
from compass.records import Batch, Knobs, Variant
from compass.workloads.complexes import collate
from compass.workloads.optimizers import make_optimizer
from compass.workloads.registry import load_workload
from compass.workloads.step import training_step

pytestmark = pytest.mark.usefixtures("one_thread")
FAMILIES = {
    "visnet": {"heads": 2, "lmax": 1, "rbf": 8},
    "schnet": {"gaussians": 8},
    "dimenet++": {"basis": 4, "radial": 3, "spherical": 3, "triplet_channels": 8},
    "gps": {"heads": 2, "rbf": 8},
}
CONFIG = OptimizerConfig()


def knobs(name, layers=3, channels=16, *, checkpointing=False):
    variant = Variant(checkpointing=checkpointing, options=tuple(sorted(FAMILIES[name].items())))
    return Knobs(layers=layers, channels=channels, variant=variant)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param, load_workload(request.param, CONFIG)


def make(workload, asked):
    torch.manual_seed(0)
    return workload.build(asked)


def small(workload, n=2):
    """A batch of small synthetic graphs that differ in size."""
    return workload.join([workload._synthetic(20 + 7 * i, (20 + 7 * i) * 6) for i in range(n)])


def test_members_do_not_feel_each_other(family):
    name, workload = family
    model = make(workload, knobs(name)).eval()
    graphs = [workload._synthetic(n, n * 6) for n in (20, 33)]
    with torch.no_grad():
        together = workload.predict(model, workload.join(graphs))
        alone = torch.cat([workload.predict(model, workload.join([graph])) for graph in graphs])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1])


def test_neither_turning_nor_moving_matters(family):
    name, workload = family
    model = make(workload, knobs(name)).eval()
    graph = workload._synthetic(20, 120)
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    moved = dataclasses.replace(graph, positions=(graph.positions @ turn.T + 3.0).astype(np.float32))
    squeezed = dataclasses.replace(graph, positions=graph.positions * np.float32([0.8, 1.0, 1.0]))
    with torch.no_grad():
        expected, same, other = (workload.predict(model, workload.join([g])) for g in (graph, moved, squeezed))
    torch.testing.assert_close(same, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(other, expected, rtol=1e-3)


def test_checkpointing_changes_no_gradient(family):
    name, workload = family
    batch, gradients = small(workload), []
    for checkpointing in (False, True):
        model = make(workload, knobs(name, checkpointing=checkpointing))
        workload.loss(model, batch).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
        blocks = workload.blocks(model)
        assert len(blocks) % 3 == 0
        assert not any(type(block).__name__ == "Checkpointed" for block in blocks)
    assert len(gradients[0]) == len(gradients[1])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_it_learns(family):
    name, workload = family
    batch, rules = small(workload), TrainingRules(learning_rate=3e-3)
    model = make(workload, knobs(name))
    optimizer = make_optimizer(workload, model, Variant(), rules)
    losses = [training_step(workload, model, optimizer, batch, Variant(), rules) for _ in range(60)]
    assert losses[-1] < 0.1 * losses[0]


def test_loads_are_what_is_collated(family):
    _, workload = family
    ((sample, load),) = workload.samples().items()
    assert tuple(size_name for size_name, _ in load.sizes) == workload.features
    batch = Batch(members=((sample, 2),))
    assert workload.load(batch) == load * 2
    found = counted(workload.collate(batch))
    assert {size: load[size] * 2 for size in workload.features} == {size: found[size] for size in workload.features}
    for micro in workload.micro_loads:
        found = counted(workload.collate(Batch(synthetic=micro)))
        assert {size: found[size] for size in workload.features} == dict(micro.sizes)


def counted(batch):
    """Sizes by brute force; self-loops count as edges whether the family has them or not."""
    n_nodes, sources = len(batch.kinds), batch.edge_index[0]
    has_loops = bool((batch.edge_index[0] == batch.edge_index[1]).any())
    per_graph = torch.bincount(batch.graph_of)
    return {
        "nodes": n_nodes,
        "edges": len(sources) + (0 if has_loops else n_nodes),
        "nodes_squared": int((per_graph**2).sum()),
        "triplets": len(getattr(batch, "into", ())),
    }


def test_micro_loads_determine_every_size(family):
    _, workload = family
    rows = np.array([[1.0, *(size for _, size in load.sizes)] for load in workload.micro_loads])
    assert np.linalg.matrix_rank(rows / rows.max(axis=0), tol=1e-6) == 1 + len(workload.features)


@pytest.mark.parametrize(
    ("name", "changes", "text"),
    [
        ("schnet", {"gaussians": 1}, "space.options.gaussians: got 1; expected a whole number from 2 to 1024. Correct it."),
        ("schnet", {"heads": 8}, "space.options.heads: got 8; expected only gaussians. Remove it, or choose another workload."),
        ("dimenet++", {"radial": 65}, "space.options.radial: got 65; expected a whole number from 1 to 64. Correct it."),
        ("gps", {"heads": 3}, "channels: got 16; expected a multiple of the 3 attention heads. "
                              "Change space.channel_step or the number of heads."),
        ("gps", {"rbf": True}, "space.options.rbf: got True; expected a whole number from 2 to 1024. Correct it."),
    ],
)  # fmt: skip
def test_options_that_the_family_refuses(name, changes, text):
    asked = Knobs(layers=3, channels=16, variant=Variant(options=tuple(sorted({**FAMILIES[name], **changes}.items()))))
    with pytest.raises(InputError) as caught:
        load_workload(name, CONFIG).build(asked)
    assert str(caught.value) == text


def test_the_bench_is_not_copied_into_every_family():
    """Nodes and edges are the data's; what a family adds is its own."""
    ((_, plain),) = Bench(CONFIG).loads.items()
    for name in FAMILIES:
        ((_, load),) = load_workload(name, CONFIG).samples().items()
        assert {size: load[size] for size in ("nodes", "edges")} == dict(plain.sizes)


def test_a_batch_moves_with_all_it_has():
    workload = load_workload("gps", CONFIG)
    batch = small(workload)
    assert batch.to("cpu").sizes == (20, 27)
    assert type(collate([workload._synthetic(20, 120)]).to("cpu")).__name__ == "GraphBatch"
