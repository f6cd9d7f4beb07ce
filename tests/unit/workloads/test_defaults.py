import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig, SpaceRules
from compass.records import Batch, Family, Knobs, Load, Variant
from compass.workloads.adapter import WorkloadAdapter, find_blocks
from compass.workloads.checkpointing import checkpointed
from compass.workloads.defaults import COPIES, as_load, family_of, micro_batches, padded_of, samples_of, spread_batches
from compass.workloads.fixed import FixedModel
from compass.workloads.registry import load_workload


def load_of(**sizes):
    return Load(graphs=1, sizes=tuple(sizes.items()))


class Least:
    """What a person must write."""

    features = ("tokens", "tokens_squared")

    def __init__(self, config=None):
        self.lengths = {"a": 3, "b": 5}

    def samples(self):
        return {name: {"tokens_squared": n * n, "tokens": n} for name, n in self.lengths.items()}

    def build(self, knobs):
        layers = [torch.nn.Linear(knobs.channels, knobs.channels) for _ in range(knobs.layers)]
        kept = checkpointed(layers) if knobs.variant.checkpointing else torch.nn.ModuleList(layers)
        return torch.nn.ModuleDict({"ends": torch.nn.ModuleList([torch.nn.Linear(1, 2)] * 1), "layers": kept})

    def collate(self, batch):
        return batch

    def loss(self, model, batch):
        return torch.zeros(())


@pytest.fixture
def least():
    return WorkloadAdapter(Least())


def test_what_is_left_out_gets_its_usual_meaning(least):
    assert least.name == "Least"
    assert least.samples() == {
        "a": load_of(tokens=3.0, tokens_squared=9.0),
        "b": load_of(tokens=5.0, tokens_squared=25.0),
    }
    assert least.load(Batch(members=(("a", 2), ("b", 1)))) == Load(
        graphs=3, sizes=(("tokens", 11.0), ("tokens_squared", 43.0))
    )
    made_up = load_of(tokens=7.0, tokens_squared=49.0)
    assert least.load(Batch(synthetic=made_up)) is made_up
    assert least.lengths == {"a": 3, "b": 5}
    with pytest.raises(AttributeError, match="no attribute 'micro_loads'"):
        _ = least.micro_loads


@pytest.mark.parametrize("checkpointing", [False, True])
def test_blocks_are_the_longest_list_of_alike_modules(least, checkpointing):
    model = least.build(Knobs(layers=4, channels=8, variant=Variant(checkpointing=checkpointing)))
    blocks = least.blocks(model)
    assert len(blocks) == 4
    assert {type(block) for block in blocks} == {torch.nn.Linear}
    assert find_blocks(torch.nn.Linear(2, 2)) == []


def test_the_digest_follows_the_code_the_version_and_the_samples(tmp_path):
    path, found = tmp_path / "mine.py", set()
    for line in ("pass", "version = 2", "version = 3"):
        path.write_text(f"import torch\nclass Mine:\n    features = ('n',)\n    {line}\n"
                        "    build = collate = loss = None\n    def __init__(self, c): self.n = 1\n"
                        "    def samples(self): return {'a': {'n': self.n}}\n")  # fmt: skip
        workload = load_workload(f"{path}:Mine", OptimizerConfig())
        found.add(workload.digest)
        again = load_workload(f"{path}:Mine", OptimizerConfig())
        assert again.digest == workload.digest
        again = load_workload(f"{path}:Mine", OptimizerConfig())
        again._workload.n = 2
        found.add(again.digest)
    assert len(found) == 6


def test_it_can_be_pickled(least):
    assert pickle.loads(pickle.dumps(least)).samples() == least.samples()  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("load", "text"),
    [
        ({"tokens": 3}, "the workload's loads: got one of 'tokens'; expected its features, 'tokens', 'tokens_squared'. "
                        "Give every load each feature once."),
        ({}, "the workload's loads: got one of nothing; expected its features, 'tokens', 'tokens_squared'. "
             "Give every load each feature once."),
    ],
)  # fmt: skip
def test_a_load_without_its_features(load, text):
    with pytest.raises(InputError) as caught:
        as_load(load, Least.features)
    assert str(caught.value) == text


def test_no_samples(least):
    least.lengths.clear()
    with pytest.raises(InputError) as caught:
        samples_of(least)
    assert str(caught.value) == "the workload's samples: got none; expected at least one. Give `samples` data."


def test_what_is_declared_and_what_is_not(least):
    assert family_of(least) == Family(space={"options": {}}, supports_checkpointing=False, noun="samples")
    assert family_of(load_workload("visnet", OptimizerConfig())) == Family(
        space={"options": SpaceRules().options, "scaled": ["layers", "channels"]}
    )
    Least.space, Least.capacity, Least.supports_checkpointing = (
        {"layers": (1, 4), "options": {"heads": 4}},
        ["channels"],
        True,
    )
    try:
        declared = Family(
            space={"layers": [1, 4], "options": {"heads": 4}},
            capacity=("channels",),
            supports_checkpointing=True,
            noun="samples",
        )
        assert family_of(least) == declared
        assert Family.model_validate_json(declared.model_dump_json()) == declared
    finally:
        del Least.space, Least.capacity, Least.supports_checkpointing


def test_the_noun_of_a_workload(least, monkeypatch):
    for name in ("visnet", "schnet", "dimenet++", "gps"):
        assert family_of(load_workload(name, OptimizerConfig())).noun == ""  # complexes and graphs
    assert family_of(least).noun == "samples"
    for noun in ("images", "protein poses", "Bilder", "x-rays", ""):
        monkeypatch.setattr(Least, "noun", noun, raising=False)
        assert family_of(least).noun == noun


@pytest.mark.parametrize("noun", [3, None, "<b>", "two\nlines", "images ", "images2"])
def test_a_noun_that_is_no_word_is_refused(least, monkeypatch, noun):
    monkeypatch.setattr(Least, "noun", noun, raising=False)
    with pytest.raises(InputError) as raised:
        family_of(least)
    assert str(raised.value) == (
        f"the workload's noun: got {noun!r}; expected a plural, such as 'images'. "
        "Name what its samples are, in letters, or leave it out."
    )


@pytest.mark.parametrize(("sized", "noun"), [(True, "graphs"), (False, "samples")])
def test_the_noun_of_one_model_as_it_is(sized, noun):
    items = [SimpleNamespace(num_nodes=4, num_edges=6) if sized else torch.zeros(3) for _ in range(4)]
    workload = FixedModel(torch.nn.Linear(3, 1), DataLoader(items), lambda model, batch: model(batch).sum())
    assert family_of(workload).noun == noun


@pytest.mark.parametrize("says", [True, False])
def test_the_old_name_of_supports_checkpointing_is_read_for_one_release(least, monkeypatch, says):
    monkeypatch.setattr(Least, "recomputes", says, raising=False)
    monkeypatch.setattr(
        Least, "supports_checkpointing", not says, raising=False
    )  # a family's, which the author overrides
    with pytest.deprecated_call(match="supports_checkpointing"):
        assert family_of(least).supports_checkpointing is says


@pytest.mark.parametrize("says", [True, False])
def test_a_family_written_under_the_old_name_is_read(says):
    family = Family.model_validate_json(f'{{"capacity": ["layers"], "recomputes": {str(says).lower()}}}')
    assert family == Family(capacity=("layers",), supports_checkpointing=says)
    with pytest.deprecated_call(match="supports_checkpointing"):
        assert family.recomputes is says


@pytest.mark.parametrize(
    ("member", "value", "text"),
    [
        ("capacity", ("depth",), "the workload's capacity: got ('depth',); expected 'layers', 'channels', options of "
                                 "its space, or () for a fixed model. Name the knobs that make a model larger."),
        ("space", {"layers": range(3)}, "the workload's space: got Object of type range is not JSON serializable; "
                                        "expected settings of `space` by name. "
                                        "Use numbers, text, tuples and dictionaries only."),
    ],
)  # fmt: skip
def test_a_declaration_that_cannot_be_used(least, member, value, text):
    setattr(least, member, value)
    with pytest.raises(InputError) as caught:
        family_of(least)
    assert str(caught.value) == text


def test_padding_names_features(least):
    least.padded = least.features[0]
    assert padded_of(least) == (least.features[0],)
    least.padded = ("atoms",)
    with pytest.raises(InputError) as caught:
        padded_of(least)
    assert str(caught.value) == (
        f"the workload's padded: got ('atoms',); expected features of it: {', '.join(map(repr, least.features))}. "
        "Name the sizes of which a batch holds the largest times the number of its samples."
    )


# ---------------------------------------------------------------------------------------------------- micro-batches


def test_declared_loads_become_synthetic_batches(least):
    least.micro_loads = [{"tokens": n, "tokens_squared": n * n} for n in (4, 8)]
    batches = micro_batches(least, least.samples())
    assert batches == tuple(Batch(synthetic=load_of(tokens=float(n), tokens_squared=float(n * n))) for n in (4, 8))


def total(batch, samples):
    ((name, copies),) = batch.members
    return [1.0, *(size for _, size in (samples[name] * copies).sizes)]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=80, unique=True), st.sampled_from([1, 2, 3]))
def test_small_samples_determine_what_any_can(lengths, n_features):
    powers = [0.5, 1.0, 2.0][:n_features]
    samples = {str(n): load_of(**{f"s{p}": n**p for p in powers}) for n in lengths}
    batches = spread_batches(samples)
    rows = np.array([total(batch, samples) for batch in batches])
    cap = max(COPIES) * np.median([[size for _, size in load.sizes] for load in samples.values()], axis=0)
    assert (rows[1:, 1:] <= cap * (1 + 1e-9)).all()  # none is large
    assert len(set(batches)) == len(batches) <= n_features + 2
    assert (rows[0, 1:] <= rows[:, 1:].min(axis=0) * (1 + 1e-9)).all() or n_features > 1  # the first is the smallest
    full = np.linalg.matrix_rank(rows / rows.max(axis=0), tol=1e-4)
    assert len(batches) == full + 1 or len(batches) == full  # one over, where there is another


def test_one_sample_is_enough():
    batches = spread_batches({"window": load_of(tokens=128.0, tokens_squared=16384.0)})
    assert sorted(batch.members for batch in batches) == [(("window", n),) for n in COPIES]


def test_the_digest_follows_the_files_beside(tmp_path):
    """What a workload's file imports from its folder, and what that imports; not what lies there besides."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "workload_of_nets.py").write_text(
        "from nets_beside import Net\nfrom parts import heads_beside\n\nclass Mine:\n    features = ('n',)\n"
        "    build = collate = loss = None\n    def __init__(self, c): pass\n"
        "    def samples(self): return {'a': {'n': 1}}\n\ndef make(config): return Mine(config)\n"
    )
    (tmp_path / "nets_beside.py").write_text("import math\nclass Net: pass\n")
    (tmp_path / "parts" / "__init__.py").write_text("from . import heads_beside\n")
    (tmp_path / "parts" / "heads_beside.py").write_text("")
    found = [load_workload(f"{tmp_path}/workload_of_nets.py:make", OptimizerConfig()).digest]
    for name in ("nets_beside.py", "parts/heads_beside.py", "parts/__init__.py", "workload_of_nets.py"):
        with (tmp_path / name).open("a") as file:
            file.write("WIDTH = 3\n")
        found.append(load_workload(f"{tmp_path}/workload_of_nets.py:make", OptimizerConfig()).digest)
    assert len(set(found)) == 5
    (tmp_path / "other.py").write_text("")
    assert load_workload(f"{tmp_path}/workload_of_nets.py:make", OptimizerConfig()).digest == found[-1]


class Dropping(torch.nn.Module):
    """Draws without a module that says so."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(16, 16)

    def forward(self, x):
        return torch.nn.functional.dropout(self.inner(x), 0.5, training=True) ** 2


def test_what_is_drawn_is_drawn_alike_the_second_time():
    layer = Dropping()
    gradients = []
    for one in (layer, checkpointed([layer])[0]):
        torch.manual_seed(3)
        layer.inner.weight.grad = None
        one(torch.ones(4, 16)).sum().backward()
        gradients.append(layer.inner.weight.grad)
    assert torch.equal(*gradients)


def test_a_familys_digest_says_nothing_of_what_was_changed_in_it(tmp_path):
    path, found = tmp_path / "mine.py", set()
    for width in (2, 3):
        path.write_text(
            f"from compass.workloads.schnet import SchNetWorkload\nclass Mine(SchNetWorkload):\n    WIDTH = {width}\n"
        )
        found.add(load_workload(f"{path}:Mine", OptimizerConfig()).digest)
    assert len(found | {load_workload("schnet", OptimizerConfig()).digest}) == 3


def test_padded_micro_batches_have_a_member_that_is_little_shorter():
    """Where nothing is padded, a model may hold less: BERT and ESM then attend without a mask. An LSTM over packed sequences holds less
    the more is padded, which a training batch of like lengths does not show."""
    samples = {
        str(n): Load(graphs=1, sizes=(("tokens", float(n)), ("squared", float(n * n))), padded=("tokens", "squared"))
        for n in (40, 60, 90, 150)
    }
    batches = spread_batches(samples)
    assert len(batches) == 4
    for batch in batches:
        (name, n_longest), short = batch.members
        assert short == ({"60": "40", "90": "60", "150": "90"}[name], 1)
        assert batch.load(samples)["squared"] == (n_longest + 1) * int(name) ** 2
    alone = {"40": samples["40"]}
    assert all(len(batch.members) == 1 for batch in spread_batches(alone))  # of one length there is no padding
