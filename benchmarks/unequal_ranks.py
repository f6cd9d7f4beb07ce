"""What loads in proportion to speed gain over equal ones: `python -m benchmarks.unequal_ranks [--quick]`.

Pairs and quartets of cards that differ train on synthetic complexes whose sizes are spread like PDBbind's. The epoch's makespan is the
sum over steps of the slowest rank's time, which differs from its prediction by noise. Equal batches are those of the usual sampler,
within the smallest card's memory. Then a small network is trained on weighted unequal ranks and by one process, on the same steps.

Prints a table, the targets, and as its last line one JSON object; writes nothing else.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compass.batching.sampler import BudgetedBatchSampler
from compass.batching.unequal import UnequalBatches, loss_weight
from compass.records import Affine, BytesLaw, RankShare
from compass.units import GIB, MIB

SEED = 20_261
FEATURES = ("nodes", "edges")
NOISE = 0.08
"""Relative standard deviation of a step's true time beside its prediction: the time model's P95 is twice that."""
LAW = BytesLaw(
    segments=(("step", Affine(base=40.0 * MIB, per_unit=(("nodes", 220e3), ("edges", 11e3)))),),
    baseline_bytes=600 * MIB,
    footprint_ratio=1.1,
)
"""Of a ViSNet of 5 layers and 96 channels, rounded."""
TIME = Affine(base=0.012, per_unit=(("nodes", 6e-6), ("edges", 0.55e-6)))
"""Seconds on the card of speed 1."""
FLEETS = {
    "8 GiB and 24 GiB, speeds 1 and 2.2": ((8, 1.0), (24, 2.2)),
    "24 GiB each, speeds 1 and 1.5": ((24, 1.0), (24, 1.5)),
    "8, 12, 24, 24 GiB, speeds 1, 1.3, 2.2, 2.2": ((8, 1.0), (12, 1.3), (24, 2.2), (24, 2.2)),
}
TARGET_GAIN, TARGET_WAITING = 0.9, 0.05
"""The least share of the ideal gain, sum of speeds / (ranks × slowest speed); and the most that ranks wait for the slowest, as predicted."""


def draw(n: int) -> NDArray[np.float64]:
    """(n, 2) atoms and edges of pockets: log-normal around 420 atoms, 14 to 20 edges each."""
    rng = np.random.default_rng(SEED)
    atoms = np.exp(rng.normal(np.log(420.0), 0.6, n)).clip(80, 2_500).round()
    return np.stack([atoms, (atoms * rng.uniform(14, 20, n)).round()], axis=1)


def shares_of(cards: Sequence[tuple[int, float]]) -> list[RankShare]:
    """The ranks of a fleet of (GiB, speed)."""
    return [RankShare(budget_bytes=gib * GIB, speed=speed) for gib, speed in cards]


def makespan(
    steps: Sequence[Sequence[NDArray[np.int64]]], sizes: NDArray[np.float64], shares: Sequence[RankShare]
) -> tuple[float, float]:
    """(seconds of an epoch with noise, share that ranks wait without it)."""
    rates = np.array([dict(TIME.per_unit)[name] for name in FEATURES])
    speeds = np.array([one.speed for one in shares])
    seconds = np.array([[TIME.base + sizes[batch].sum(axis=0) @ rates for batch in step] for step in steps]) / speeds
    noisy = seconds * np.random.default_rng(SEED).lognormal(0.0, NOISE, seconds.shape)
    return float(noisy.max(axis=1).sum()), float(seconds.max(axis=1).sum() / seconds.mean(axis=1).sum() - 1)


def compare(cards: Sequence[tuple[int, float]], sizes: NDArray[np.float64]) -> dict[str, float]:
    """Equal and unequal batches of one fleet."""
    shares = shares_of(cards)
    least = min(one.budget_bytes for one in shares)
    equal = BudgetedBatchSampler(sizes, LAW, least, features=FEATURES, n_ranks=len(shares), time_law=TIME, seed=SEED)
    started = time.perf_counter()
    unequal = UnequalBatches(sizes, LAW, TIME, shares, features=FEATURES, seed=SEED)
    steps = unequal.steps(0)
    packed_s = time.perf_counter() - started
    (equal_s, equal_waiting), (unequal_s, waiting) = (makespan(one, sizes, shares) for one in (equal.steps(0), steps))
    within = [
        LAW.upper_footprint(equal.load(batch.tolist())) <= one.budget_bytes
        for step in steps
        for one, batch in zip(shares, step, strict=True)
    ]
    return {
        "equal_s": equal_s,
        "unequal_s": unequal_s,
        "gain": equal_s / unequal_s,
        "ideal_gain": sum(one.speed for one in shares) / (len(shares) * min(one.speed for one in shares)),
        "waiting_equal": equal_waiting,
        "waiting_unequal": waiting,
        "over_budget": within.count(False),
        "pack_s": packed_s,
    }


# ------------------------------------------------------------------------------------------------------------- learning


def losses(seed: int, n_epochs: int, *, ranks: bool) -> NDArray[np.float64]:
    """The training loss of each epoch: of ranks with weighted losses, or of one process that sees each step whole."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(512, 16, generator=generator)
    labels = inputs[:, :4].prod(dim=1, keepdim=True) + 0.1 * torch.randn(512, 1, generator=generator)
    batches = UnequalBatches(
        np.full((512, 2), 400.0),
        LAW,
        TIME,
        shares_of(FLEETS["8 GiB and 24 GiB, speeds 1 and 2.2"]),
        max_graphs=24,
        seed=seed,
    )
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.SiLU(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def loss_of(members: NDArray[np.int64]) -> torch.Tensor:
        errors: torch.Tensor = model(inputs[members]) - labels[members]
        return errors.square().mean()

    found = []
    for epoch in range(n_epochs):
        for step in batches.steps(epoch):
            optimizer.zero_grad()
            _backward_of(step, loss_of, ranks=ranks)
            optimizer.step()
        with torch.no_grad():
            found.append(float((model(inputs) - labels).square().mean()))
    return np.array(found)


def _backward_of(
    step: Sequence[NDArray[np.int64]], loss_of: Callable[[NDArray[np.int64]], torch.Tensor], *, ranks: bool
) -> None:
    """Gradients of a step: the mean over ranks of weighted losses, as DDP makes it, or of all graphs at once."""
    n_all = sum(map(len, step))
    if ranks:
        parts = [loss_weight(len(one), n_all, len(step)) * loss_of(one) / len(step) for one in step]
    else:
        parts = [loss_of(np.concatenate(step))]
    torch.autograd.backward(parts)


def compare_learning(n_seeds: int, n_epochs: int) -> dict[str, float]:
    """The largest difference of the mean curves, beside the standard deviation between seeds."""
    curves = {
        ranks: np.array([losses(seed, n_epochs, ranks=ranks) for seed in range(n_seeds)]) for ranks in (True, False)
    }
    apart = np.abs(curves[True].mean(axis=0) - curves[False].mean(axis=0)).max()
    return {"loss_apart": float(apart), "loss_noise": float(curves[False].std(axis=0).mean())}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer complexes and epochs")
    quick = parser.parse_args().quick
    sizes = draw(2_000 if quick else 20_000)
    found: dict[str, Any] = {name: compare(cards, sizes) for name, cards in FLEETS.items()}
    learning = compare_learning(5, 4 if quick else 30)
    for name, row in found.items():
        print(
            f"{name}: epoch {row['equal_s']:.0f} s with equal batches, {row['unequal_s']:.0f} s unequal, {row['gain']:.2f} × of {row['ideal_gain']:.2f} ×; "
            f"ranks wait {row['waiting_equal']:.1%} and {row['waiting_unequal']:.1%}; packed in {row['pack_s']:.2f} s"
        )
    print(f"mean loss curves differ by {learning['loss_apart']:.2g}; seeds by {learning['loss_noise']:.2g}")
    met = {
        "gain": all(row["gain"] >= TARGET_GAIN * row["ideal_gain"] for row in found.values()),
        "waiting": all(row["waiting_unequal"] <= TARGET_WAITING for row in found.values()),
        "memory": all(row["over_budget"] == 0 for row in found.values()),
        "learning": learning["loss_apart"] <= learning["loss_noise"],
    }
    print(", ".join(f"{name}: {'met' if ok else 'MISSED'}" for name, ok in met.items()))
    print(json.dumps({"fleets": found, **learning, "met": met}))


if __name__ == "__main__":
    main()
