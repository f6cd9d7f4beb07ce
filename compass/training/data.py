"""What is trained on, and what judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compass.data.oversize import oversize
from compass.data.scan.catalogue import Catalogue
from compass.data.splits.splits import Split, split_dataset
from compass.records import Load

if TYPE_CHECKING:
    from compass.data.scan.rows import Label
    from compass.optimizer_config import OptimizerConfig
    from compass.workloads.protocol import Workload


@dataclass(frozen=True)
class TrainingData:
    """A workload's samples in three parts."""

    loads: Mapping[str, Load]
    split: Split
    labels: Mapping[str, Label]
    """Of the labelled ones; empty where no catalogue says."""
    isolated: tuple[str, ...]
    """Ids of training samples that get a batch of their own."""
    catalogue: Catalogue | None = None

    def sizes(self, ids: tuple[str, ...]) -> np.ndarray:
        """(n, F) of these samples."""
        return np.array([[size for _, size in self.loads[name].sizes] for name in ids])


def open_data(workload: Workload, config: OptimizerConfig) -> TrainingData:
    """The samples of `workload`; without a catalogue all of them are trained on.

    Raises:
        InputError: the split that was asked for cannot be made.
    """
    loads = dict(workload.samples())
    if not config.dataset.catalogue:
        everything = Split(train=tuple(sorted(loads)), val=(), test=(), why="all of them: there is no dataset to split")
        return TrainingData(loads, everything, {}, ())
    catalogue = Catalogue.open(Path(config.dataset.catalogue))
    parts = split_dataset(catalogue, config.training.split, config.seed, among=loads)
    labels = {row.id: row.label for row in catalogue.usable if row.label is not None}
    isolated: tuple[str, ...] = ()
    if config.dataset.oversize == "isolate":
        beyond = set(oversize({name: load.sizes for name, load in loads.items()}, config.dataset.oversize_share))
        isolated = tuple(name for name in parts.train if name in beyond)
    return TrainingData(loads, parts, labels, isolated, catalogue)
