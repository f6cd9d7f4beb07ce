"""Training on budgeted batches reaches the same loss as training on shuffled batches of a fixed size.

Batches of similar samples would harm most if the label depended on the size, so here it does. A batch's loss is its sum divided
by the samples of the mean batch; its own mean would give large samples more weight (docs/batching.md).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler

from compass.batching.sampler import BudgetedBatchSampler
from compass.records import Affine, BytesLaw

N_SAMPLES, N_EPOCHS, N_SEEDS = 400, 20, 8
LAW = BytesLaw(segments=(("all", Affine(base=0.0, per_unit=(("nodes", 1.0),))),))


def make_data():
    """Sizes like those of pockets, features that include the size, and a label that depends on the size nonlinearly."""
    rng = np.random.default_rng(0)
    nodes = np.exp(rng.normal(np.log(420), 0.6, N_SAMPLES)).round()
    size = (np.log(nodes) - np.log(420)) / 0.6
    shown = np.stack([size, *rng.normal(size=(3, N_SAMPLES))], axis=1)
    label = np.sin(2 * size) + shown[:, 1] * size + 0.2 * rng.normal(size=N_SAMPLES)
    return nodes[:, None], torch.tensor(shown, dtype=torch.float32), torch.tensor(label, dtype=torch.float32)


SIZES, SHOWN, LABELS = make_data()


def budgeted(n_mean, seed):
    return BudgetedBatchSampler(SIZES, LAW, n_mean * SIZES.mean(), features=("nodes",), oversize="isolate", seed=seed)


def train(batches, seed, n_divided_by=None):
    """The loss over all samples after training; a batch's summed loss is divided by `n_divided_by` or its own length."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.SiLU(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    for _ in range(N_EPOCHS):
        for batch in batches:
            errors = (model(SHOWN[batch]).squeeze(-1) - LABELS[batch]).square()
            optimizer.zero_grad()
            (errors.sum() / (n_divided_by or len(batch))).backward()
            optimizer.step()
    with torch.no_grad():
        return (model(SHOWN).squeeze(-1) - LABELS).square().mean().item()


@pytest.mark.usefixtures("one_thread")
def test_the_loss_is_that_of_plain_shuffling():
    ours, plain = [], []
    for seed in range(N_SEEDS):
        sampler = budgeted(8, seed)
        ours.append(train(sampler, seed, sampler.mean_graphs))
        generator = torch.Generator().manual_seed(seed)
        shuffled = BatchSampler(RandomSampler(SHOWN, generator=generator), round(sampler.mean_graphs), drop_last=False)
        assert abs(len(shuffled) / len(sampler) - 1) < 0.1  # as many updates
        plain.append(train(shuffled, seed))
    error = np.sqrt((np.var(ours, ddof=1) + np.var(plain, ddof=1)) / N_SEEDS)
    assert np.mean(plain) < 0.3 * LABELS.var()  # the model learned
    assert abs(np.mean(ours) - np.mean(plain)) < 2 * error + 0.05 * np.mean(plain)
