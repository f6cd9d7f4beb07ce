"""Two baselines for a model: the mean of the training labels, and a ridge regression that never sees the protein.

Much of what networks learn from binding data is which ligands bind to any protein (Volkov et al., J. Med. Chem. 2022). A model
that is no better than the second baseline has learnt nothing from the complex.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from compass.data.scan.catalogue import Catalogue
from compass.data.splits.splits import Split
from compass.training.ridge import fit_ridge

MEAN, LIGAND = "mean", "ligand"


def baselines(catalogue: Catalogue, parts: Split, ids: Iterable[str] | None = None) -> dict[str, dict[str, float]]:
    """The predicted pK by baseline (`mean`, `ligand`) and id.

    Both learn from the training labels that are values, or from all training labels if none is a value. A ligand that RDKit
    cannot read gets the mean from both.

    Args:
        catalogue: holds the labels and the paths of the ligands' files.
        parts: the training part to learn from, and the validation part, which selects the ridge's penalty.
        ids: of the usable complexes to predict; None: all in `parts`.

    Raises:
        StructureError: a ligand's file is missing or has changed since the scan.
    """
    wanted = tuple((*parts.train, *parts.val, *parts.test) if ids is None else ids)
    train, val = (_labelled(catalogue, part) for part in (parts.train, parts.val))
    mean = dict.fromkeys(wanted, float(np.mean(list(train.values()))))
    return {MEAN: mean, LIGAND: mean | _by_ligand(catalogue, train, val, wanted)}


def _labelled(catalogue: Catalogue, ids: tuple[str, ...]) -> dict[str, float]:
    """The pK by id of those of `ids` whose label is a value; of all labelled ones if none is."""
    chosen = set(ids)
    labels = {row.id: row.label for row in catalogue.usable if row.label is not None and row.id in chosen}
    values = {name: label.pk for name, label in labels.items() if label.relation in {"=", "~"}}
    return values or {name: label.pk for name, label in labels.items()}


def _by_ligand(
    catalogue: Catalogue, train: Mapping[str, float], val: Mapping[str, float], wanted: Collection[str]
) -> dict[str, float]:
    """The ridge's predictions by id, for the ligands that RDKit can read; empty if it can read no training ligand."""
    from compass.training.ligand_features import read_features  # RDKit

    needed = {*train, *val, *wanted}
    files = {row.id: catalogue.root / row.ligand for row in catalogue.usable if row.id in needed}
    names, features = read_features(files)
    known, judges, asked = ([i for i, name in enumerate(names) if name in part] for part in (train, val, set(wanted)))
    if not known:
        return {}
    ridge = fit_ridge(
        features[known],
        np.array([train[names[i]] for i in known]),
        features[judges],
        np.array([val[names[i]] for i in judges]),
    )
    return dict(zip((names[i] for i in asked), ridge.predict(features[asked]).tolist(), strict=True))
