"""The sampler in the loaders of PyTorch and PyG, and under Lightning."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler
from torch.utils.data.distributed import DistributedSampler
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader as GraphLoader

from compass.batching.sampler import BudgetedBatchSampler
from compass.records import Affine, BytesLaw

LAW = BytesLaw(segments=(("all", Affine(base=100.0, per_unit=(("nodes", 1.0), ("edges", 2.0)))),))


def sampler_of(**given):
    nodes = np.exp(np.random.default_rng(0).normal(np.log(100), 0.6, 200)).round()
    return BudgetedBatchSampler(np.stack([nodes, 10 * nodes], axis=1), LAW, 20_100.0, **given)


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 200

    def __getitem__(self, index):
        return torch.tensor(index)


def graphs():
    return [
        Data(x=torch.full((int(n), 1), float(i)), edge_index=torch.zeros(2, 1, dtype=torch.long), number=i)
        for i, (n, _) in enumerate(sampler_of().sizes)
    ]


@pytest.mark.parametrize("n_workers", [0, 2])
def test_pytorch_loader(n_workers):
    sampler = sampler_of()
    expected = [list(sampler), list(sampler)]
    loader = DataLoader(Numbers(), batch_sampler=sampler_of(), num_workers=n_workers, persistent_workers=n_workers > 0)
    assert len(loader) == len(sampler)
    assert [[batch.tolist() for batch in loader] for _ in range(2)] == expected


def test_pyg_loader():
    sampler = sampler_of()
    expected = list(sampler)
    loader = GraphLoader(graphs(), batch_sampler=sampler_of(), num_workers=2)
    batches = list(loader)
    assert [batch.number.tolist() for batch in batches] == expected
    assert [batch.num_nodes for batch in batches] == [sampler.load(batch)["nodes"] for batch in expected]


def test_it_can_be_pickled():
    sampler = sampler_of()
    assert list(pickle.loads(pickle.dumps(sampler))) == list(sampler)  # noqa: S301 - our own


def test_ranks_from_a_distributed_sampler():
    ranks = DistributedSampler(range(200), num_replicas=2, rank=1)
    assert list(sampler_of(sampler=ranks)) == list(sampler_of(n_ranks=2, rank=1))
    still = DistributedSampler(range(200), num_replicas=2, rank=1, shuffle=False)
    assert list(sampler_of(sampler=still)) == list(sampler_of(n_ranks=2, rank=1, shuffle=False))
    assert list(sampler_of(sampler=SequentialSampler(range(200)))) == list(sampler_of(shuffle=False))


# -------------------------------------------------------------------------------------------------------- Lightning


def module_of(pl, make_loader):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = torch.nn.Linear(1, 1)
            self.seen = {}

        def training_step(self, batch, _):
            self.seen.setdefault(self.current_epoch, []).append(batch.tolist())
            return self.model(batch[:, None].float()).square().mean() * 1e-6

        def train_dataloader(self):
            return make_loader()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    return Module()


def trainer_of(pl, folder, **given):
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, max_epochs=3, default_root_dir=folder, **given)  # fmt: skip


def test_lightning_trains_on_every_epoch(tmp_path):
    pl = pytest.importorskip("pytorch_lightning")
    sampler = sampler_of()
    expected = {epoch: [step[0].tolist() for step in sampler.steps(epoch)] for epoch in range(3)}
    module = module_of(pl, lambda: DataLoader(Numbers(), batch_sampler=sampler_of()))
    trainer_of(pl, tmp_path).fit(module)
    assert module.seen == expected


def test_lightning_builds_it_again_for_its_ranks():
    """As `Trainer(use_distributed_sampler=True)` does under DDP for a loader created in a hook."""
    pytest.importorskip("pytorch_lightning")
    from lightning_fabric.utilities.data import _replace_dunder_methods, _set_sampler_epoch
    from pytorch_lightning.utilities.data import _update_dataloader

    with _replace_dunder_methods(DataLoader, "dataset"), _replace_dunder_methods(BatchSampler):
        loader = DataLoader(Numbers(), batch_sampler=sampler_of(seed=5))
    ranks = DistributedSampler(Numbers(), num_replicas=2, rank=1)
    again = _update_dataloader(loader, ranks)
    expected = sampler_of(n_ranks=2, rank=1, seed=5)
    assert len(again) == len(expected)
    _set_sampler_epoch(again, 2)
    assert [batch.tolist() for batch in again] == [step[1].tolist() for step in expected.steps(2)]


def test_lightning_refuses_a_loader_that_it_cannot_build_again():
    """A loader created outside a hook: an error is better than every rank training on every sample."""
    pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.utilities.data import _update_dataloader

    loader = DataLoader(Numbers(), batch_sampler=sampler_of())
    with pytest.raises(TypeError, match="use_distributed_sampler=False"):
        _update_dataloader(loader, DistributedSampler(Numbers(), num_replicas=2, rank=1))
