"""The verdict on a run: the trained model between two baselines, in one sentence.

A model that is no better than the mean of the labels has learnt nothing. One that is no better than a regression on the ligand
alone has learnt nothing of the complex. A difference that may be chance counts for neither side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compass.records import RunVerdict, Standing
from compass.records.nouns import of_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Floats = NDArray[np.float64]

CHANCE = 2.0
"""Standard errors by which a mean difference must exceed zero. Chance alone does that once in twenty times."""
FEWEST = 10
"""Labels that are values, below which the standard error of a difference is itself too uncertain."""
MEMORISED = 0.5
"""Share of the judged part's error below which the training error is called memorising. Models that fitted some of the noise
of their labels stayed above it, at 0.54 to 0.7 (docs/learning_curve.md)."""
SETS = {"test": "the test set", "val": "the validation set", "train": "the training set"}
"""The parts in words, in the order in which they are judged."""
WHY_NOT_TEST = {"test": "", "val": ", since there is no test set", "train": ", since no complexes were held out"}
NO_VALUES = "no label of the evaluated complexes is a value"
STOPPED = "the run was stopped before its end"


@dataclass(frozen=True)
class PartErrors:
    """Errors in pK (n,) on the same labels, all of them values: of the model, the ligand alone and the mean."""

    model: _Floats
    ligand: _Floats
    mean: _Floats


def judge_run(errors: Mapping[str, PartErrors], n_updates: int, few_updates: int) -> RunVerdict:
    """The verdict on the test part; without labels there, on the validation part, or else on the training part.

    Args:
        errors: by part.
        n_updates: weight updates that were made.
        few_updates: the number below which they are few.
    """
    part = next((part for part in SETS if part in errors and len(errors[part].model)), None)
    reason = NO_VALUES if part is None else _not_comparable(SETS[part], errors[part])
    if part is None or reason:
        return no_verdict(reason, n_updates, few_updates)
    found = errors[part]
    standing = _standing(found)
    memorised = part != "train" and "train" in errors and _rmse(errors["train"].model) < MEMORISED * _rmse(found.model)
    words = [_comparison(standing, part, found)]
    if memorised:
        words.append(f"it has memorised the training set, where its RMSE is {_rmse(errors['train'].model):.2f}")
    words.append(updates_words(n_updates, few_updates))
    return RunVerdict(standing=standing, part=part, n_updates=n_updates, memorised=memorised, says="; ".join(words))


def not_evaluated(noun: str) -> str:
    """The reason for no verdict on a run without labels; `noun` is its workload's."""
    return f"no {of_data(noun)} with labels were evaluated"


def no_verdict(reason: str, n_updates: int, few_updates: int) -> RunVerdict:
    """The verdict on a run that cannot be compared with the baselines, because of `reason`."""
    says = f"no verdict: {reason}; {updates_words(n_updates, few_updates)}"
    return RunVerdict(standing="unknown", n_updates=n_updates, says=says)


def updates_words(n_updates: int, few_updates: int) -> str:
    """`12,400 updates were made`, with `only` if that is fewer than `few_updates`."""
    made = "1 update was made" if n_updates == 1 else f"{n_updates:,} updates were made"
    return made if n_updates >= few_updates else f"only {made}"


def _not_comparable(name: str, found: PartErrors) -> str:
    """Why the model cannot be compared with the baselines on this part; empty if it can."""
    n = len(found.model)
    if not np.isfinite(found.model).all():
        return f"a prediction on {name} is not a finite number"
    if n < FEWEST:
        return (
            f"{name} has {n} {'label that is a value' if n == 1 else 'labels that are values'}, and {FEWEST} are needed"
        )
    return ""


def _standing(found: PartErrors) -> Standing:
    beside_mean, beside_ligand = _compare(found.model, found.mean), _compare(found.model, found.ligand)
    if beside_mean >= 0:
        return "worse_than_mean" if beside_mean > 0 else "no_better_than_mean"
    if beside_ligand >= 0:
        return "worse_than_ligand" if beside_ligand > 0 else "no_better_than_ligand"
    return "better_than_ligand"


def _compare(one: _Floats, other: _Floats) -> int:
    """1 if the squared errors `one` (n,) are larger than `other` (n,) beyond chance, −1 if smaller, else 0."""
    difference = np.square(one) - np.square(other)
    standard_error = float(np.std(difference, ddof=1)) / math.sqrt(len(difference))
    mean = float(np.mean(difference))
    return 0 if abs(mean) <= CHANCE * standard_error else int(math.copysign(1, mean))


def _comparison(standing: Standing, part: str, found: PartErrors) -> str:
    """The model beside the baseline that decides, e.g. `better than the ligand alone on the test set by 12 % (RMSE …)`."""
    model, ligand, mean = map(_rmse, (found.model, found.ligand, found.mean))
    where = f"on {SETS[part]}{WHY_NOT_TEST[part]}"
    beside_mean, beside_ligand = (
        f"(RMSE {model:.2f}, the mean {mean:.2f})",
        f"(RMSE {model:.2f}, the ligand {ligand:.2f})",
    )
    if standing == "worse_than_mean":
        return f"worse than the mean of the labels {where} {beside_mean}: it has learnt nothing that holds there"
    if standing == "no_better_than_mean":
        return f"no better than the mean of the labels {where} {beside_mean}: it has learnt nothing that holds there"
    if standing == "worse_than_ligand":
        return (
            f"better than the mean, but worse than the ligand alone {where} {beside_ligand}: "
            "it has learnt nothing of the complex"
        )
    if standing == "no_better_than_ligand":
        return (
            f"better than the mean, but no better than the ligand alone {where} {beside_ligand}: "
            "it may have learnt nothing of the complex"
        )
    return f"better than the ligand alone by {1 - model / ligand:.0%} {where} {beside_ligand}".replace("%", " %")


def _rmse(errors: _Floats) -> float:
    return math.sqrt(float(np.mean(np.square(errors)))) if len(errors) else math.nan
