"""Building a model: probes and training use this one function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from compass.records import Knobs
    from compass.workloads.protocol import Workload


def build(workload: Workload, knobs: Knobs) -> torch.nn.Module:
    """The model of `knobs`, with initial values drawn by one thread.

    Orthogonal initialisation factorises many small matrices, which several threads slow down: on two cores, DimeNet++ of
    6 layers × 256 channels took 3.1 s with two threads, 0.3 s with one, and 13 s with two beside a busy core.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = workload.build(knobs)
    finally:
        torch.set_num_threads(n_threads)
    if knobs.variant.compiled:
        _compile(workload.blocks(model) or [model])
    return model


def _compile(modules: list[torch.nn.Module]) -> None:
    """Compile each of `modules` for any load, at its first call.

    The `forward` functions are compiled, and not the modules, so that hooks stay outside and go on marking where a layer
    begins. Equal layers share what is compiled, which the whole model at once could not: ViSNet of four layers took 99 s in
    place of 127.
    """
    for module in modules:
        module.forward = torch.compile(module.forward, dynamic=True)
