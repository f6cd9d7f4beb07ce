"""A scanned dataset for training: the load of every usable complex, and its graph on request."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from compass.data.graphs.graph_store import SUFFIX, GraphStore, open_store
from compass.data.oversize import oversize, size_limit
from compass.data.scan.catalogue import Catalogue
from compass.data.structures.graphs import Graph, build_graph, graph_load
from compass.records import Load, digest

if TYPE_CHECKING:
    from compass.data.scan.rows import Row
    from compass.data.structures.affinity import Relation
    from compass.data.structures.complexes import Complex
    from compass.optimizer_config import OptimizerConfig

UNLABELLED = 0.0
"""Placeholder for a missing label; memory and time do not depend on it."""


class Dataset:
    """The usable complexes of a catalogue, with the configured policy applied to oversize ones."""

    def __init__(self, rules: OptimizerConfig) -> None:
        self._rules = rules
        self.catalogue = Catalogue.open(Path(rules.dataset.catalogue))
        rows = {row.id: row for row in self.catalogue.usable}
        sizes = {name: row.sizes for name, row in rows.items()}
        beyond = frozenset(oversize(sizes, rules.dataset.oversize_share))
        policy = rules.dataset.oversize
        self._rows = {name: row for name, row in rows.items() if not (policy == "refuse" and name in beyond)}
        self._cropped = beyond if policy == "crop" else frozenset()
        self._limit = size_limit(sizes, beyond)
        self.build(next(iter(self._rows)))  # imports the libraries for building before an idle worker is measured

    @cached_property
    def loads(self) -> dict[str, Load]:
        """Id → load of every complex."""
        return {
            name: graph_load(self.graph(name)) if name in self._cropped else Load(graphs=1, sizes=row.sizes)
            for name, row in self._rows.items()
        }

    @cached_property
    def digest(self) -> str:
        """Digest of the complexes, the reading rules and the oversize policy; labels and splits do not count."""
        rules, complexes = self._rules.dataset, ((row.id, row.key) for row in self.catalogue.usable)
        return digest(self.catalogue.about.rules, *complexes, self._rules.graph, rules.oversize, rules.oversize_share)

    @property
    def store_path(self) -> Path:
        """The file that `pack_graphs` writes."""
        path = self.catalogue.path
        return path.with_name(f"{path.stem}.{self.digest}{SUFFIX}")

    @cached_property
    def _store(self) -> GraphStore | None:
        return open_store(self.store_path, self.digest)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self._rows)}

    @property
    def names(self) -> tuple[str, ...]:
        """The ids of all complexes, sorted."""
        return tuple(self._rows)

    def graph(self, name: str) -> Graph:
        """The graph of a complex, from the store if there is one.

        Raises:
            KeyError: no complex has that id.
        """
        row = self._rows[name]
        stored = self._store.read(self._numbers[name]) if self._store else None
        return self.build(name) if stored is None else _labelled(stored, row)

    def build(self, name: str) -> Graph:
        """The graph of a complex, built from its atoms without the store."""
        row = self._rows[name]
        complex_ = self.catalogue.complex(name)
        if name in self._cropped:
            complex_ = self._cropped_to_limit(complex_)
        return _labelled(build_graph(complex_, self._rules.graph, UNLABELLED), row)

    def _cropped_to_limit(self, complex_: Complex) -> Complex:
        """The complex reduced to the atoms nearest to the ligand, until its graph is within the limit. The ligand stays whole."""
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


def _labelled(graph: Graph, row: Row) -> Graph:
    label = row.label
    relation: Relation
    pk, relation = (UNLABELLED, "=") if label is None else (label.pk, label.relation)
    return replace(graph, name=row.id, label=pk, relation=relation)


def _part(complex_: Complex, places: np.ndarray) -> Complex:
    """The atoms at `places`, in their original order."""
    kept = np.sort(places)
    return replace(
        complex_,
        elements=complex_.elements[kept],
        positions=complex_.positions[kept],
        is_ligand=complex_.is_ligand[kept],
    )
