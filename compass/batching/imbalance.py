"""How long ranks that step together wait for the slowest of them, predicted from the packing of the samples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from compass.batching.packing import Limits, pack
from compass.records import Affine, BytesLaw


def predicted_imbalance(  # noqa: PLR0913 - each varies on its own
    sizes: NDArray[np.float64],
    law: BytesLaw,
    time_law: Affine,
    features: tuple[str, ...],
    *,
    batch_size: int,
    n_ranks: int,
    seed: int,
) -> float:
    """The time that ranks wait for the slowest one, as a share of the time that they compute; 0 if they never wait.

    Batches are packed and grouped as the sampler does it: those of one step have similar predicted times. Left over are fewer
    batches than ranks, which the sampler splits.

    Args:
        sizes: (n, F) of every sample.
        law: names the features; memory limits no batch here, since a plan's batch size fits by its certificate.
        time_law: the seconds of a step as a function of the load.
        features: the names of the columns of `sizes`.
        batch_size: samples in a batch.
        n_ranks: processes that train together.
        seed: of the order.
    """
    limits = Limits(law, math.inf, features, max_graphs=batch_size)
    batches = pack(sizes, np.random.default_rng((seed, 0, 0)).permutation(len(sizes)), limits)
    rates = np.array([dict(time_law.per_unit).get(name, 0.0) for name in features])
    seconds = np.sort([time_law.base + float(sizes[batch].sum(axis=0) @ rates) for batch in batches])
    steps = seconds[len(seconds) % n_ranks :].reshape(-1, n_ranks)
    mean_s = float(steps.mean(axis=1).sum())
    return float(steps.max(axis=1).sum()) / mean_s - 1.0 if mean_s else 0.0
