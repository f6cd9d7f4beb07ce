"""The test bench: the one complex that stands for the data when no dataset is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compass.data.affinity import parse_affinity
from compass.data.graphs import Graph, build_graph
from compass.data.structures import read_complex
from compass.errors import InputError

if TYPE_CHECKING:
    from compass.optimizer_config import GraphRules, StructureRules, TestBench

EMBEDDED = Path(__file__).parent / "embedded"
"""The embedded complex; PROVENANCE.md beside it says where it is from."""
EMBEDDED_PROTEIN = EMBEDDED / "1ia1_protein.pdb.gz"
EMBEDDED_LIGAND = EMBEDDED / "1ia1_ligand.sdf"


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
