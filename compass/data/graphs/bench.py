"""The test bench: one complex, used when no dataset is given."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from compass.data.structures.affinity import parse_affinity
from compass.data.structures.graphs import Graph, build_graph, graph_load
from compass.data.structures.reading import read_complex
from compass.errors import InputError
from compass.records import digest

if TYPE_CHECKING:
    from compass.optimizer_config import GraphRules, OptimizerConfig, StructureRules, TestBench
    from compass.records import Load

EMBEDDED = Path(__file__).parents[1] / "embedded"
"""Folder of the embedded complex; PROVENANCE.md in it names its source."""
EMBEDDED_PROTEIN = EMBEDDED / "1ia1_protein.pdb.gz"
EMBEDDED_LIGAND = EMBEDDED / "1ia1_ligand.sdf"


class Bench:
    """The test bench as a dataset of one complex."""

    def __init__(self, rules: OptimizerConfig) -> None:
        self._graph = load_bench(rules.test_bench, rules.structures, rules.graph)

    @property
    def loads(self) -> dict[str, Load]:
        """Name of the complex → its load."""
        return {self._graph.name: graph_load(self._graph)}

    @cached_property
    def digest(self) -> str:
        """Digest of the graph."""
        graph = self._graph
        arrays = (graph.elements, graph.positions, graph.is_ligand, graph.edge_index)
        return digest(graph.name, graph.label, *(array.tobytes() for array in arrays))

    def graph(self, name: str) -> Graph:
        """The graph of the complex.

        Raises:
            KeyError: the complex has another name.
        """
        return {self._graph.name: self._graph}[name]


def load_bench(bench: TestBench, structures: StructureRules, graph: GraphRules) -> Graph:
    """The test bench's complex as a graph; the embedded one where no files are named.

    Raises:
        InputError: only one of protein and ligand is given, or the binding data cannot be read.
        StructureError: a file or the complex cannot be used.
    """
    if bool(bench.protein) != bool(bench.ligand):
        given, absent = ("protein", "ligand") if bench.protein else ("ligand", "protein")
        raise InputError(
            f"test_bench.{absent}",
            got=f"nothing beside test_bench.{given} = {getattr(bench, given)!r}",
            expected="both files or neither",
            fix=f"Name the {absent} file too, or leave both empty for the embedded complex.",
        )
    complex_ = read_complex(
        bench.name,
        Path(bench.protein) if bench.protein else EMBEDDED_PROTEIN,
        Path(bench.ligand) if bench.ligand else EMBEDDED_LIGAND,
        pocket_radius=bench.pocket_radius,
        max_atoms=bench.max_atoms,
        rules=structures,
    )
    label = parse_affinity(bench.binding_data, where="test_bench.binding_data").pk
    return build_graph(complex_, graph, label)
