"""The samples of a run: their loads and labels, and the split into training, validation and test."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compass.data.oversize import oversize
from compass.data.scan.catalogue import Catalogue
from compass.data.splits.splits import Split, split_dataset
from compass.errors import InputError
from compass.records import Load, StagePlan
from compass.records.nouns import counted, of_data
from compass.workloads.defaults import family_of

if TYPE_CHECKING:
    from compass.data.scan.rows import Label
    from compass.optimizer_config import OptimizerConfig
    from compass.workloads.protocol import Workload

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """A workload's samples in three parts."""

    loads: Mapping[str, Load]
    split: Split
    labels: Mapping[str, Label]
    """The labels of the labelled samples, by id; empty without a catalogue."""
    isolated: tuple[str, ...]
    """Ids of training samples that are batched alone."""
    catalogue: Catalogue | None = None

    def sizes(self, ids: tuple[str, ...]) -> np.ndarray:
        """The sizes (n, F) of the samples `ids`."""
        return np.array([[size for _, size in self.loads[name].sizes] for name in ids])


def open_data(workload: Workload, config: OptimizerConfig) -> TrainingData:
    """The samples of `workload`, split as configured; without a catalogue all of them are training samples.

    Raises:
        InputError: the data do not allow the configured split, or the workload serves for planning only.
    """
    loads = dict(workload.samples())
    _check_trainable(workload, len(loads))
    if not config.dataset.catalogue:
        everything = Split(train=tuple(sorted(loads)), val=(), test=(), why="no dataset, so no split")
        return TrainingData(loads, everything, {}, ())
    catalogue = Catalogue.open(Path(config.dataset.catalogue))
    parts = split_dataset(catalogue, config.training.split, config.seed, among=loads)
    labels = {row.id: row.label for row in catalogue.usable if row.label is not None}
    isolated: tuple[str, ...] = ()
    if config.dataset.oversize == "isolate":
        beyond = set(oversize({name: load.sizes for name, load in loads.items()}, config.dataset.oversize_share))
        isolated = tuple(name for name in parts.train if name in beyond)
    return TrainingData(loads, parts, labels, isolated, catalogue)


def _check_trainable(workload: Workload, n_known: int) -> None:
    """Refuse a module of the user's that Compass can plan for and not train."""
    family = family_of(workload)
    if family.is_trainable(n_known):
        return
    of_all = "an unknown number of" if family.is_stream else f"its {family.n_samples}"
    got = f"{n_known} of {of_all} samples" if family.evaluates else "a step without a loss, so nothing can be evaluated"
    raise InputError(
        f"workload {workload.name}",
        got=got,
        expected="a loss, and the size of every sample",
        fix="Train it with your own trainer, which compass.FollowPlan(profile, 'production') makes follow the plan.",
    )


def without_left_out(data: TrainingData, plan: StagePlan, noun: str = "") -> TrainingData:
    """`data` without the training samples that `plan` leaves out because they exceed the budget even alone.

    `noun` is the workload's.

    Raises:
        InputError: no training sample is left.
    """
    left_out = set(plan.certificate.left_out).intersection(data.split.train)
    if not left_out:
        return data
    ids = tuple(name for name in data.split.train if name not in left_out)
    if not ids:
        raise InputError(
            f"stage {plan.stage}",
            got="no training sample that fits the budget, even alone",
            expected="at least one",
            fix="Plan again with a larger --memory-limit, or with --set dataset.oversize=crop.",
        )
    warn_left_out(sorted(left_out), noun)
    isolated = tuple(name for name in data.isolated if name not in left_out)
    return replace(data, split=data.split.model_copy(update={"train": ids}), isolated=isolated)


def warn_left_out(ids: Sequence[str], noun: str) -> None:
    """Log the complexes, or what `noun` calls them, that are not trained on, if there are any."""
    if ids:
        number, verbs = counted(len(ids), of_data(noun)), "does not fit the budget and is"
        verbs = verbs if len(ids) == 1 else "do not fit the budget and are"
        log.warning("%s %s left out: %s", number, verbs, ", ".join(ids))
