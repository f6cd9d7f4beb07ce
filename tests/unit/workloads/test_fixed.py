"""One model of the user's as a workload: what it takes from a module, a loader and a loss, or from a LightningModule."""

import dataclasses
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader as GraphLoader

from compass.errors import InputError
from compass.files import MODEL_SUFFIX
from compass.optimizer_config import OptimizerConfig, TrainingRules
from compass.records import Batch, Knobs, Variant
from compass.workloads.defaults import family_of, micro_batches, samples_of
from compass.workloads.fixed import N_STREAMED, FixedModel, fixed_model, loader_of
from compass.workloads.item_sizes import N_SIZED
from compass.workloads.lightning_step import configured, own_optimizers
from compass.workloads.model_file import read_model, write_model
from compass.workloads.optimizers import make_optimizer
from compass.workloads.registry import load_workload
from compass.workloads.step import training_step

FIXED, RULES = Knobs.fixed(Variant()), TrainingRules(keep_gradients=False)


def rows(n=100, size=4):
    return DataLoader(
        TensorDataset(torch.arange(n * size, dtype=torch.float32).reshape(n, size), torch.ones(n)), batch_size=8
    )


def mean_square(model, batch):
    return (model(batch[0]).squeeze(-1) - batch[1]).square().mean()


class Regression(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, _):
        loss = mean_square(self.layer, batch)
        self.log("loss", loss)
        return {"loss": loss}

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1)}

    def train_dataloader(self):
        return rows()

    def on_after_backward(self):
        raise AssertionError("only Lightning's trainer calls it")


class Game(pl.LightningModule):
    """Two optimizers by hand."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.one, self.other = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
        self.one.bias.requires_grad_(requires_grad=False)

    def training_step(self, batch):
        for index, optimizer in enumerate(self.optimizers()):
            self.toggle_optimizer(optimizer)
            loss = mean_square(lambda x: self.other(self.one(x)), batch)
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm=("norm", "value")[index])
            optimizer.step()
            self.untoggle_optimizer(optimizer)

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), 0.1) for part in (self.one, self.other)], []


def test_a_module_with_its_loader_and_loss():
    model = FixedModel(torch.nn.Linear(4, 1), rows(), mean_square)
    family = family_of(model)
    assert (family.capacity, family.own_optimizer, family.own_step, family.evaluates) == ((), False, False, True)
    assert (model.features, model.n_samples, len(samples_of(model))) == (("samples",), 100, 100)
    made = load_workload_of(model)
    batch = made.collate(Batch(members=(("3", 2), ("5", 1))))
    assert batch[0][:, 0].tolist() == [12.0, 12.0, 20.0]
    assert made.load(Batch(members=(("3", 2), ("5", 1)))).sizes == (("samples", 3.0),)
    assert [sum(n for _, n in micro.members) for micro in micro_batches(made, made.samples())] == [2, 8, 4]
    assert torch.equal(made.build(FIXED).weight, made.build(FIXED).weight)


def load_workload_of(model):
    from compass.workloads.adapter import WorkloadAdapter

    return WorkloadAdapter(model)


def test_a_lightning_module_as_lightning_runs_it():
    model = FixedModel(Regression(), rows())
    family = family_of(model)
    assert (family.own_optimizer, family.own_step, family.uses_adamw) == (True, False, False)
    assert family.remarks == (
        "Regression.on_after_backward is not called: plans hold for a step without it",
        "the learning-rate scheduler of Regression is not stepped: it changes neither memory nor time",
    )
    built = model.build(FIXED)
    optimizer = make_optimizer(model, built, Variant(), RULES)
    assert isinstance(optimizer, torch.optim.SGD)
    before = built.layer.weight.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = training_step(model, built, optimizer, model.collate(Batch(members=(("0", 4),))), Variant(), RULES)
    assert loss > 0
    assert not torch.equal(before, built.layer.weight)


def test_gradients_are_there_until_lightnings_loss_is():
    seen = []

    class Looking(Regression):
        def training_step(self, batch, _):
            seen.append(self.layer.weight.grad is not None)
            return mean_square(self.layer, batch)

    model = FixedModel(Looking(), rows())
    built = model.build(FIXED)
    optimizer = make_optimizer(model, built, Variant(), RULES)
    for _ in range(2):
        training_step(model, built, optimizer, model.collate(Batch(members=(("0", 4),))), Variant(), RULES)
    assert seen == [False, True]


def test_manual_optimization():
    model = FixedModel(Game(), rows())
    family = family_of(model)
    assert (family.own_step, family.evaluates) == (True, False)
    built = model.build(FIXED)
    optimizer = make_optimizer(model, built, Variant(), RULES)
    before = [weight.clone() for weight in built.parameters()]
    training_step(model, built, optimizer, model.collate(Batch(members=(("0", 4),))), Variant(), RULES)
    changed = [not torch.equal(one, other) for one, other in zip(before, built.parameters(), strict=True)]
    assert changed == [True, False, True, True]  # a frozen weight stays frozen
    assert [weight.requires_grad for weight in built.parameters()] == changed


class Scheduled(pl.LightningModule):
    """Asks its trainer how long it lasts, logs to it, and steps its schedulers itself, as Lightning's documentation shows it."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, _):
        optimizer, schedulers = self.optimizers(), self.lr_schedulers()
        loss = mean_square(self.layer, batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        for one in schedulers:
            one.step()
        if self.trainer.is_last_batch or self.global_step % 10 == 0:
            self.logger.log_metrics({"rate": schedulers[0].get_last_lr()[0]}, step=self.current_epoch)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        n_steps = int(self.trainer.estimated_stepping_batches)
        schedulers = (
            torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=n_steps),
            torch.optim.lr_scheduler.StepLR(optimizer, 1),
        )
        return [optimizer], [{"scheduler": one, "interval": "step"} for one in schedulers]


def test_a_module_that_asks_its_trainer_and_steps_its_schedulers():
    module = Scheduled()
    model = FixedModel(module, rows())
    assert family_of(model).remarks == (
        "the learning-rate scheduler of Scheduled is not stepped: it changes neither memory nor time",
    )
    with pytest.raises(RuntimeError, match="not attached to a"):
        _ = module.trainer.max_epochs
    built = model.build(FIXED)
    optimizer = make_optimizer(model, built, Variant(), RULES)
    rate = optimizer.param_groups[0]["lr"]
    training_step(model, built, optimizer, model.collate(Batch(members=(("0", 4),))), Variant(), RULES)
    assert optimizer.param_groups[0]["lr"] == rate
    with pytest.raises(AttributeError) as caught:
        _ = built.trainer.checkpoint_callback
    assert str(caught.value) == (
        "trainer.checkpoint_callback is not known where no trainer runs the step, as in the probes of Compass"
    )


@pytest.mark.parametrize(
    ("form", "n_optimizers", "n_schedulers"),
    [
        (lambda one, rate: one, 1, 0),
        (lambda one, rate: [one, one], 2, 0),
        (lambda one, rate: (one, one), 2, 0),
        (lambda one, rate: {"optimizer": one}, 1, 0),
        (lambda one, rate: {"optimizer": one, "lr_scheduler": rate}, 1, 1),
        (lambda one, rate: {"optimizer": one, "lr_scheduler": {"scheduler": rate, "interval": "step"}}, 1, 1),
        (lambda one, rate: ([one, one], [rate]), 2, 1),
        (lambda one, rate: ([one], []), 1, 0),
        (lambda one, rate: ({"optimizer": one, "lr_scheduler": rate}, {"optimizer": one}), 2, 1),
    ],
)
def test_every_form_in_which_lightning_takes_optimizers(form, n_optimizers, n_schedulers):
    module = Regression()
    one = torch.optim.SGD(module.parameters(), 0.1)
    module.configure_optimizers = lambda: form(one, torch.optim.lr_scheduler.StepLR(one, 1))
    optimizers, schedulers = configured(module)
    assert (len(optimizers), len(schedulers)) == (n_optimizers, n_schedulers)
    own_optimizers(module)
    given = module.lr_schedulers()
    assert (0 if given is None else 1) == n_schedulers


class Precise(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch):
        return {"loss": mean_square(self.layer, batch)}

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), max_iter=3)


def test_an_optimizer_that_asks_for_the_loss_makes_whole_updates():
    model = FixedModel(Precise(), rows())
    family = family_of(model)
    assert (family.own_step, family.evaluates) == (True, True)
    built = model.build(FIXED)
    optimizer = make_optimizer(model, built, Variant(), RULES)
    batch = model.collate(Batch(members=(("0", 4),)))
    losses = [training_step(model, built, optimizer, batch, Variant(), RULES) for _ in range(2)]
    assert losses[1] < losses[0]
    assert model.remarks == (
        "LBFGS goes on filling its memory for 100 updates, with two copies of the weights each: plans do not count them",
    )


def test_an_optimizer_that_cannot_be_made_yet_is_no_error_here():
    class Late(Precise):
        def configure_optimizers(self):
            return self.trainer.estimated_stepping_batches

    assert not family_of(FixedModel(Late(), rows())).own_step


def test_graphs_have_nodes_and_edges():
    graphs = [Data(x=torch.ones(n, 2), edge_index=torch.zeros(2, 3 * n, dtype=torch.long)) for n in (2, 5, 9)]
    model = FixedModel(torch.nn.Linear(2, 1), GraphLoader(graphs), lambda net, batch: net(batch.x).mean())
    assert samples_of(model)["1"].sizes == (("nodes", 5.0), ("edges", 15.0))
    assert model.collate(Batch(members=(("0", 1), ("2", 1)))).num_nodes == 11


class Joined(torch.nn.Module):
    """Makes its edges itself, as PyG's SchNet and MACE do."""

    def __init__(self, **lengths):
        super().__init__()
        self.part = torch.nn.Linear(2, 1)
        for name, length in lengths.items():
            setattr(self.part, name, length)


@pytest.mark.parametrize(
    ("module", "sizes"),
    [
        (Joined(cutoff=1.5), (("nodes", 4.0), ("edges", 6.0))),
        (Joined(r_max=2), (("nodes", 4.0), ("edges", 10.0))),
        (Joined(), (("nodes", 4.0),)),
        (Joined(cutoff=True), (("nodes", 4.0),)),
        (Joined(cutoff=1.5, radius=9.0), (("nodes", 4.0),)),
    ],
)
def test_edges_that_a_model_makes_within_its_cutoff(module, sizes):
    in_a_row = [Data(x=torch.ones(n, 2), pos=_row(n)) for n in (2, 4)]
    model = FixedModel(module, GraphLoader(in_a_row), lambda net, batch: net.part(batch.x).mean())
    assert samples_of(model)["1"].sizes == sizes
    flat = [Data(x=torch.ones(n, 2)) for n in (2, 4)]  # no positions, so no edges
    model = FixedModel(module, GraphLoader(flat), lambda net, batch: net.part(batch.x).mean())
    assert samples_of(model)["1"].sizes == (("nodes", 4.0),)


def _row(n):
    return torch.stack([torch.arange(float(n)), torch.zeros(n), torch.zeros(n)], dim=1)


class Bonds:
    """A graph whose counts are methods, as in DGL."""

    def __init__(self, n):
        self.n = n

    def num_nodes(self):
        return self.n

    def num_edges(self):
        return 2 * self.n


@dataclasses.dataclass
class Pair:
    pocket: Data
    ligand: Bonds
    label: torch.Tensor


def pocket_of(n):
    return Data(x=torch.ones(n, 2), edge_index=torch.zeros(2, 3 * n, dtype=torch.long))


def test_the_graphs_of_an_item_are_counted_together():
    items = [Pair(pocket_of(n), Bonds(n + 1), torch.ones(1)) for n in (2, 5)]
    model = FixedModel(torch.nn.Linear(2, 1), DataLoader(items, collate_fn=list), mean_square)
    assert samples_of(model)["1"].sizes == (("nodes", 11.0), ("edges", 27.0))


def test_tensors_beside_a_graph_count_if_they_differ_in_size():
    items = [(pocket_of(3), torch.ones(n), np.ones((n, 2))) for n in (2, 5)]
    model = FixedModel(torch.nn.Linear(2, 1), DataLoader(items, collate_fn=list), mean_square)
    assert samples_of(model)["1"].sizes == (("nodes", 3.0), ("edges", 9.0), ("elements", 15.0))


def test_a_loader_of_whole_batches_is_refused():
    loader = DataLoader([torch.ones(4, 3)], batch_size=None)
    with pytest.raises(InputError) as caught:
        FixedModel(torch.nn.Linear(3, 1), loader, mean_square)
    assert str(caught.value) == (
        "loader: got batch_size=None: an item of its dataset is a whole batch; expected a loader that makes batches of samples, "
        "so that other batches can be tried. "
        "Give the dataset single samples, and the loader a batch_size and, if needed, a collate_fn."
    )


def test_items_of_many_sizes_have_elements_too():
    items = [{"x": torch.ones(n)} for n in (2, 5, 9)]
    model = FixedModel(torch.nn.Linear(2, 1), DataLoader(items), mean_square)
    assert samples_of(model)["1"].sizes == (("samples", 1.0), ("elements", 5.0))


def cannot_mix(items):
    return torch.stack([item["x"] for item in items])


def one_after_another(items):
    return torch.cat([item["x"] for item in items]), torch.ones(sum(len(item["x"]) for item in items))


def padded_with_mask(items):
    x = torch.nn.utils.rnn.pad_sequence([item["x"] for item in items], batch_first=True)
    return {"x": x, "mask": x > 0}


@pytest.mark.parametrize(
    ("collate", "padded"), [(padded_with_mask, ("elements",)), (one_after_another, ()), (cannot_mix, ())]
)
def test_a_loader_that_pads_is_noticed(collate, padded):
    items = [{"x": torch.ones(n)} for n in (2, 5, 9)]
    model = FixedModel(torch.nn.Linear(2, 1), DataLoader(items, collate_fn=collate), mean_square)
    assert model.padded == padded
    assert samples_of(model)["1"].padded == padded


class Many:
    def __init__(self, n):
        self.n, self.read = n, 0

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        self.read += 1
        return torch.ones(1 + index % 3)


def test_a_large_dataset_is_not_read_whole():
    items = Many(1_000_000)
    model = FixedModel(torch.nn.Linear(2, 1), DataLoader(items), mean_square)
    assert len(model.samples()) == N_SIZED
    assert items.read <= N_SIZED + 100
    assert model.n_samples == 1_000_000


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.ones(2)


def test_a_stream_gives_its_first_items():
    model = FixedModel(torch.nn.Linear(2, 1), DataLoader(Endless()), mean_square)
    assert (len(model.samples()), model.n_samples) == (N_STREAMED, None)
    assert not family_of(model).is_trainable(N_STREAMED)


class Counted(Endless):
    def __len__(self):
        return 5000


def test_a_stream_that_tells_its_length():
    family = family_of(FixedModel(torch.nn.Linear(2, 1), DataLoader(Counted()), mean_square))
    assert (family.n_samples, family.is_stream) == (5000, False)
    assert not family.is_trainable(N_STREAMED)


def test_the_loader_of_a_lightning_module_or_data_module():
    assert len(loader_of(Regression()).dataset) == 100

    class Module(pl.LightningDataModule):
        def setup(self, stage):
            self.n = {"fit": 7}[stage]

        def train_dataloader(self):
            return rows(self.n)

    assert len(loader_of(Regression(), Module()).dataset) == 7


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: FixedModel(torch.nn.Linear(2, 1), rows()),
         "loss: got none, and a Linear has no training_step; expected a function loss(model, batch) that returns a scalar. "
         "Pass it, or a LightningModule."),
        (lambda: FixedModel(Regression(), DataLoader([])),
         "loader: got an empty dataset; expected at least one item. Give it data."),
        (lambda: loader_of(Game()),
         "loader: got none; expected a torch DataLoader, or a module or data module whose train_dataloader() returns one. "
         "Pass the loader that you train with."),
        (lambda: loader_of(Game(), [1, 2]),
         "loader: got list; expected a torch DataLoader, or a module or data module whose train_dataloader() returns one. "
         "Pass the loader that you train with."),
    ],
)  # fmt: skip
def test_what_is_missing(made, text):
    with pytest.raises(InputError) as caught:
        made()
    assert str(caught.value) == text


def test_a_step_without_a_loss_is_refused():
    class Silent(Regression):
        def training_step(self, batch, _):
            return None

    model = FixedModel(Silent(), rows())
    with pytest.raises(InputError) as caught:
        model.loss(model.build(FIXED), model.collate(Batch(members=(("0", 1),))))
    assert str(caught.value) == (
        "Silent.training_step: got NoneType as its result; expected a loss, or a dictionary with one under 'loss'. "
        "Return the loss; a module that optimizes manually sets automatic_optimization = False."
    )


def test_what_a_user_names_may_make_a_model():
    assert fixed_model(object()) is None
    assert fixed_model((1, 2)) is None
    assert fixed_model((torch.nn.Linear(4, 1), rows(), mean_square)).name == "Linear"


SOURCE = """
import torch, pytorch_lightning as pl
from torch.utils.data import DataLoader

class Net(pl.LightningModule):
    def __init__(self, width=3):
        super().__init__()
        self.layer = torch.nn.Linear(2, width)
    def training_step(self, batch, i):
        return self.layer(batch).mean()
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())
    def train_dataloader(self):
        return DataLoader(torch.ones(10, 2))

def build():
    return torch.nn.Linear(2, 1), DataLoader(torch.ones(10, 2)), lambda model, batch: model(batch).mean()
"""


def test_a_file_may_hold_the_module_or_a_function(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE)
    net, built = (load_workload(f"{tmp_path / 'mine.py'}:{name}", OptimizerConfig()) for name in ("Net", "build"))
    assert (net.name, built.name) == ("Net", "Linear")
    assert len(net.samples()) == len(built.samples()) == 10
    before = net.digest
    (tmp_path / "mine.py").write_text(SOURCE.replace("width=3", "width=4"))
    assert load_workload(f"{tmp_path / 'mine.py'}:Net", OptimizerConfig()).digest != before


def test_a_model_in_a_file_comes_back(tmp_path):
    path = tmp_path / f"mine{MODEL_SUFFIX}"

    class Local(torch.nn.Linear):  # a class that no other process can import
        pass

    write_model(path, FixedModel(Local(4, 1), rows(), lambda model, batch: model(batch[0]).mean()))
    made = load_workload(str(path), OptimizerConfig())
    assert (made.name, len(made.samples())) == ("Local", 100)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"mine\.model\.pkl: got .*; expected a file that compass\.fit wrote"):
        read_model(path)


class Payload:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def damaged(content):
    middle = len(content) // 2
    yield content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    yield content[:-1]
    yield content + b" "
    yield content[:-80]  # a whole pickle without its checksum
    yield b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f."  # asks for 8 EiB


def test_nothing_of_a_damaged_model_is_unpickled(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / f"mine{MODEL_SUFFIX}"
    write_model(path, Payload(trace))
    whole = path.read_bytes()
    for content in damaged(whole):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"mine\.model\.pkl: got ValueError: its checksum is missing, or not that"):
            read_model(path)
    assert not trace.exists()
    path.write_bytes(whole)
    read_model(path)
    assert trace.exists()  # the payload is a working one


def test_a_pipe_is_no_model(tmp_path):
    path = tmp_path / f"mine{MODEL_SUFFIX}"
    os.mkfifo(path)
    with pytest.raises(InputError, match="a pipe or a device, not a file"):
        read_model(path)


def test_what_cannot_be_given_to_another_process(tmp_path):
    model = FixedModel(torch.nn.Linear(4, 1), rows(), mean_square)
    model.lock = threading.Lock()
    with pytest.raises(InputError, match=r"model, loader or loss: got TypeError: .*can be pickled"):
        write_model(tmp_path / "a.model.pkl", model)
    assert not (tmp_path / "a.model.pkl").exists()
