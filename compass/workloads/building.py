"""Building a model, everywhere in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from compass.records import Knobs
    from compass.workloads.protocol import Workload


def build(workload: Workload, knobs: Knobs) -> torch.nn.Module:
    """The model of `knobs`, its first values made by one thread.

    Factorising many small matrices, as orthogonal values take, is no work for several: DimeNet++ of 6 × 256 took 3.1 s to build
    on two cores with two threads, 0.3 s with one, and 13 s with two beside a busy core.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return workload.build(knobs)
    finally:
        torch.set_num_threads(n_threads)
