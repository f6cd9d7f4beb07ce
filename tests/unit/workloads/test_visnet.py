import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch_geometric.nn.models.visnet import Distance, EquivariantScalar, ViSNetBlock

from compass.data.graphs.bench import Bench
from compass.data.structures.complexes import Complex
from compass.data.structures.graphs import Graph, build_graph
from compass.errors import InputError
from compass.optimizer_config import GraphRules, OptimizerConfig
from compass.records import Batch, Knobs, Load, Variant
from compass.workloads.complexes import N_ELEMENTS, collate
from compass.workloads.registry import load_workload
from compass.workloads.visnet import VISNET_OPTIONS, AffinityViSNet, ViSNetWorkload

pytestmark = pytest.mark.usefixtures("one_thread")
CUTOFF = 3.0


def knobs(layers=2, channels=16, *, checkpointing=False, precision="fp32", **options):
    options = {"heads": 2, "lmax": 1, "rbf": 8} | options
    variant = Variant(precision=precision, checkpointing=checkpointing, options=tuple(sorted(options.items())))
    return Knobs(layers=layers, channels=channels, variant=variant)


def make_model(asked=None):
    torch.manual_seed(0)
    return AffinityViSNet(asked or knobs(), cutoff=CUTOFF, max_neighbours=32).eval()


def make_graph(n=12, n_ligand=4, seed=0, name="made", label=6.0) -> Graph:
    """Random atoms in a box, its last ones the ligand's, joined as any complex is."""
    rng = np.random.default_rng(seed)
    complex_ = Complex(
        name=name,
        elements=rng.choice([6, 7, 8], n),
        positions=rng.uniform(0, 4, (n, 3)).astype(np.float32),
        is_ligand=np.arange(n) >= n - n_ligand,
    )
    return build_graph(complex_, GraphRules(cutoff=CUTOFF), label)


def answer(model, *graphs):
    with torch.no_grad():
        return model(collate(list(graphs)))


class BruteForce(Distance):
    """PyG's module with every pair looked at, for its own search needs another package."""

    def forward(self, pos, batch):
        apart = torch.cdist(pos, pos, compute_mode="donot_use_mm_for_euclid_dist")
        near = (apart <= self.cutoff) & (batch[:, None] == batch[None, :])
        target, source = near.nonzero(as_tuple=True)  # self-loops included, as Distance has them
        edge_vec = pos[source] - pos[target]
        edge_weight = torch.where(source == target, 0.0, apart[target, source])
        return torch.stack([source, target]), edge_weight, edge_vec


@pytest.mark.parametrize("lmax", [1, 2])
def test_it_is_pygs_visnet_on_the_same_edges(lmax):
    graphs = [make_graph(), make_graph(9, 3, seed=1)]
    batch = collate(graphs)
    ours = make_model(knobs(lmax=lmax))
    theirs = ViSNetBlock(
        lmax=lmax, num_heads=2, num_layers=2, hidden_channels=16, num_rbf=8, max_z=2 * N_ELEMENTS, cutoff=CUTOFF
    ).eval()
    theirs.distance = BruteForce(CUTOFF)
    head = EquivariantScalar(hidden_channels=16)
    theirs.load_state_dict(ours.representation.state_dict())
    head.load_state_dict(ours.head.state_dict())
    with torch.no_grad():
        per_atom = head.pre_reduce(*theirs(batch.kinds, batch.positions, batch.graph_of)).squeeze(-1)
        is_ligand = batch.kinds >= N_ELEMENTS
        mean = [per_atom[is_ligand & (batch.graph_of == graph)].mean() for graph in range(2)]
        torch.testing.assert_close(ours(batch), torch.stack(mean))


def changed(graph, **changes):
    return dataclasses.replace(graph, **changes)


def rebuilt(graph, order=slice(None), positions=None):
    places = graph.positions if positions is None else np.asarray(positions, np.float32)
    complex_ = Complex(graph.name, graph.elements[order], places[order], graph.is_ligand[order])
    return build_graph(complex_, GraphRules(cutoff=CUTOFF), graph.label)


def test_neither_turning_nor_moving_nor_the_atoms_order_matters():
    graph, model = make_graph(), make_model(knobs(lmax=2))
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    expected = answer(model, graph)
    for other in (
        rebuilt(graph, positions=graph.positions @ turn.T),
        rebuilt(graph, positions=graph.positions + np.array([5.0, -3.0, 8.0])),
        rebuilt(graph, order=np.random.default_rng(3).permutation(graph.n_nodes)),
    ):
        torch.testing.assert_close(answer(model, other), expected, rtol=1e-4, atol=1e-5)
    squeezed = rebuilt(graph, positions=graph.positions * np.array([1.0, 1.0, 0.8]))
    assert not torch.allclose(answer(model, squeezed), expected, rtol=1e-3)


def test_the_same_atom_in_ligand_and_protein_differs():
    """Not by the readout alone: the mark changes what the atom is to its neighbours."""
    graph, model = make_graph(), make_model()
    marked = graph.is_ligand.copy()
    marked[0] = True
    batch, other = collate([graph]), collate([changed(graph, is_ligand=marked)])
    assert other.kinds[0] == batch.kinds[0] + N_ELEMENTS
    with torch.no_grad():
        same_readout = model(dataclasses.replace(other, readout=batch.readout))
    assert not torch.allclose(same_readout, answer(model, graph))


def test_the_readout_is_the_mean_over_the_ligand():
    graph, model = make_graph(), make_model()
    far = np.concatenate([graph.positions, [[100.0, 0.0, 0.0]]])
    complex_ = Complex("far", np.append(graph.elements, 8), far.astype(np.float32), np.append(graph.is_ligand, False))
    expected = answer(model, graph)
    torch.testing.assert_close(answer(model, build_graph(complex_, GraphRules(cutoff=CUTOFF), 6.0)), expected)
    ligand_too = dataclasses.replace(complex_, is_ligand=np.append(graph.is_ligand, True))
    assert not torch.allclose(answer(model, build_graph(ligand_too, GraphRules(cutoff=CUTOFF), 6.0)), expected)


def test_graphs_in_a_batch_do_not_see_each_other():
    graphs, model = [make_graph(seed=seed, n=8 + seed) for seed in range(3)], make_model()
    torch.testing.assert_close(answer(model, *graphs), torch.cat([answer(model, graph) for graph in graphs]))


def test_collate():
    graphs = [make_graph(5, 2, label=4.5), make_graph(7, 3, seed=1, label=9.0), make_graph(4, 0, seed=2, label=2.0)]
    batch = collate(graphs)
    assert batch.graph_of.tolist() == [0] * 5 + [1] * 7 + [2] * 4
    assert batch.labels.tolist() == [4.5, 9.0, 2.0]
    torch.testing.assert_close(batch.readout, torch.tensor([0] * 3 + [1 / 2] * 2 + [0] * 4 + [1 / 3] * 3 + [0.0] * 4))
    kinds = np.concatenate([graph.elements + N_ELEMENTS * graph.is_ligand for graph in graphs])
    assert batch.kinds.tolist() == kinds.tolist()
    edges = np.concatenate([graph.edge_index + start for graph, start in zip(graphs, (0, 5, 12), strict=True)], axis=1)
    assert batch.edge_index.tolist() == edges.tolist()
    assert batch.positions[5:12].numpy() == pytest.approx(graphs[1].positions)
    assert {tensor.dtype for tensor in (batch.positions, batch.readout, batch.labels)} == {torch.float32}


def test_a_step_leaves_the_batch_as_it_was():
    """ViSNet normalises edge vectors in place."""
    batch, model = collate([make_graph()]), make_model()
    before = copy.deepcopy(batch)
    first = model(batch)
    first.sum().backward()
    torch.testing.assert_close(model(batch), first)
    assert all(torch.equal(getattr(before, name), tensor) for name, tensor in vars(batch).items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layers", [1, 3])
def test_checkpointing_changes_neither_loss_nor_gradients(workload, layers, precision):
    batch = collate([make_graph()])
    plain = make_model(knobs(layers))
    checkpointed = make_model(knobs(layers, checkpointing=True))
    states = zip(checkpointed.parameters(), plain.parameters(), strict=True)
    assert all(torch.equal(mine, other) for mine, other in states)
    losses = []
    for model in (plain, checkpointed):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            losses.append(workload.loss(model, batch))
        losses[-1].backward()
    assert losses[0] == losses[1]
    assert losses[0].isfinite()
    for mine, other in zip(checkpointed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=0)


@pytest.fixture(scope="module")
def workload():
    return ViSNetWorkload(OptimizerConfig())


def test_blocks_are_the_layers_that_run(workload):
    for checkpointing in (False, True):
        model = workload.build(knobs(3, checkpointing=checkpointing))
        assert [type(block).__name__ for block in workload.blocks(model)] == ["ViS_MP"] * 3


def test_checkpointing_leaves_the_parameters_alone(workload):
    def shapes(asked):
        return [parameter.shape for parameter in workload.build(asked).parameters()]

    assert shapes(knobs(3)) == shapes(knobs(3, checkpointing=True))


def test_loads(workload):
    ((name, load),) = workload.samples().items()
    batch = Batch(members=((name, 3),))
    collated = workload.collate(batch)
    assert workload.load(batch) == load * 3
    assert (len(collated.labels), len(collated.kinds)) == (3, 3 * load["nodes"])
    assert collated.edge_index.shape == (2, 3 * load["edges"])
    made_up = Load(graphs=1, sizes=(("nodes", 50.0), ("edges", 300.0)))
    collated = workload.collate(Batch(synthetic=made_up))
    assert workload.load(Batch(synthetic=made_up)) == made_up
    assert (len(collated.kinds), collated.edge_index.shape[1]) == (50, 300)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (
            knobs(channels=36, heads=8),
            "channels: got 36; expected a multiple of the 8 attention heads. "
            "Change space.channel_step or the number of heads.",
        ),
        (knobs(lmax=3), "space.options.lmax: got 3; expected a whole number from 1 to 2. Correct it."),
        (knobs(heads=0), "space.options.heads: got 0; expected a whole number from 1 to 256. Correct it."),
        (knobs(rbf=True), "space.options.rbf: got True; expected a whole number from 1 to 1024. Correct it."),
        (knobs(rbf=8.0), "space.options.rbf: got 8.0; expected a whole number from 1 to 1024. Correct it."),
        (
            knobs(depth=3),
            "space.options.depth: got 3; expected only heads, lmax, rbf. Remove it, or choose another workload.",
        ),
        (
            Knobs(layers=2, channels=16),
            "space.options.heads: got nothing; expected a whole number from 1 to 256. Correct it.",
        ),
    ],
)
def test_knobs_that_make_no_visnet(workload, asked, text):
    with pytest.raises(InputError) as caught:
        workload.build(asked)
    assert str(caught.value) == text


def test_the_defaults_are_allowed():
    assert all(value in VISNET_OPTIONS[name] for name, value in OptimizerConfig().space.options.items())


def test_building_on_the_meta_device_takes_no_memory(workload):
    with torch.device("meta"):
        model = workload.build(knobs(12, 512))
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("change", ["label", "positions", "elements", "is_ligand", "edge_index", "name", "rules"])
def test_the_digest_changes_with_the_graphs(change):
    def digest(graph, /, **changes):
        workload = ViSNetWorkload(OptimizerConfig(**changes))
        bench = object.__new__(Bench)
        bench._graph = graph
        workload.__dict__["_data"] = bench  # a cached property's place
        return workload.digest

    graph = make_graph()
    assert digest(graph) == digest(make_graph())
    if change == "rules":
        assert digest(graph, graph=GraphRules(cutoff=4.0)) != digest(graph)
        return
    old = getattr(graph, change)
    if isinstance(old, np.ndarray):
        new = old.copy()
        new.flat[0] = new.flat[0] + 1 if new.dtype != bool else not new.flat[0]
    else:
        new = old * 2
    assert digest(changed(graph, **{change: new})) != digest(graph)


def test_it_is_a_workload():
    assert load_workload("visnet", OptimizerConfig()).features == ("nodes", "edges")
