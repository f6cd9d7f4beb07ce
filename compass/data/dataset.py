"""A scanned dataset as a model is trained on it: every usable complex's load, and its graph when it is asked for."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from compass.data.catalogue import Catalogue
from compass.data.graphs import Graph, build_graph, graph_load
from compass.data.oversize import oversize, size_limit
from compass.records import Load, digest

if TYPE_CHECKING:
    from compass.data.complexes import Complex
    from compass.optimizer_config import OptimizerConfig

UNLABELLED = 0.0
"""The label of a complex that has none: memory and time do not depend on it."""


class Dataset:
    """The usable complexes of a catalogue, the oversize ones dealt with by the configured policy."""

    def __init__(self, rules: OptimizerConfig) -> None:
        self._rules = rules
        self._catalogue = Catalogue.open(Path(rules.dataset.catalogue))
        rows = {row.id: row for row in self._catalogue.usable}
        sizes = {name: row.sizes for name, row in rows.items()}
        beyond = frozenset(oversize(sizes, rules.dataset.oversize_share))
        policy = rules.dataset.oversize
        self._rows = {name: row for name, row in rows.items() if not (policy == "refuse" and name in beyond)}
        self._cropped = beyond if policy == "crop" else frozenset()
        self._limit = size_limit(sizes, beyond)
        self.graph(next(iter(self._rows)))  # loads what building graphs needs before anybody measures an idle worker

    @cached_property
    def loads(self) -> dict[str, Load]:
        """The load of every complex, by id."""
        return {
            name: graph_load(self.graph(name)) if name in self._cropped else Load(graphs=1, sizes=row.sizes)
            for name, row in self._rows.items()
        }

    @property
    def digest(self) -> str:
        """Changes with the complexes, the rules they are read by, and what becomes of the largest."""
        rules = self._rules.dataset
        return digest(self._catalogue.digest, self._rules.graph, rules.oversize, rules.oversize_share)

    def graph(self, name: str) -> Graph:
        """The graph of a complex. Raises KeyError if there is none of that id."""
        label = self._rows[name].label
        complex_ = self._catalogue.complex(name)
        if name in self._cropped:
            complex_ = self._cropped_to_limit(complex_)
        if label is None:
            return build_graph(complex_, self._rules.graph, UNLABELLED)
        return build_graph(complex_, self._rules.graph, label.pk, label.relation)

    def _cropped_to_limit(self, complex_: Complex) -> Complex:
        """As many of the atoms nearest to the ligand as keep the graph under the limit; the ligand stays whole."""
        distances, _ = cKDTree(complex_.positions[complex_.is_ligand]).query(complex_.positions)
        distances = np.where(complex_.is_ligand, -1.0, distances)
        order = np.argsort(distances, kind="stable")
        low, high = int(complex_.is_ligand.sum()), complex_.n_atoms
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._fits(_part(complex_, order[:middle])) else (low, middle - 1)
        return _part(complex_, order[:low])

    def _fits(self, complex_: Complex) -> bool:
        load = graph_load(build_graph(complex_, self._rules.graph, UNLABELLED))
        return all(size <= self._limit[name] for name, size in load.sizes)


def _part(complex_: Complex, places: np.ndarray) -> Complex:
    """The atoms at `places`, in their old order."""
    kept = np.sort(places)
    return replace(
        complex_,
        elements=complex_.elements[kept],
        positions=complex_.positions[kept],
        is_ligand=complex_.is_ligand[kept],
    )
