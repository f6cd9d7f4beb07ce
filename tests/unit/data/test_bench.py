"""The embedded complex, and a bench of one's own."""

from __future__ import annotations

import gzip

import pytest

from compass.data.graphs.bench import EMBEDDED, EMBEDDED_LIGAND, EMBEDDED_PROTEIN, load_bench
from compass.errors import InputError
from compass.optimizer_config import GraphRules, StructureRules, TestBench

STRUCTURES, GRAPH = StructureRules(), GraphRules()


def test_embedded_complex():
    graph = load_bench(TestBench(), STRUCTURES, GRAPH)
    assert (graph.name, graph.n_nodes, graph.n_edges, int(graph.is_ligand.sum())) == ("1ia1", 250, 4984, 19)
    assert graph.label == pytest.approx(8.8539, abs=1e-4)
    assert set(graph.elements.tolist()) == {6, 7, 8, 16}


def test_embedded_files_are_those_of_the_wheel(wheel_complexes):
    protein, ligand = wheel_complexes["1ia1"]
    assert gzip.decompress(EMBEDDED_PROTEIN.read_bytes()) == protein.read_bytes()
    assert EMBEDDED_LIGAND.read_bytes() == ligand.read_bytes()
    assert EMBEDDED_PROTEIN.read_bytes()[3:8] == bytes(5)  # no name, no time stamp
    assert {file.name for file in EMBEDDED.iterdir()} == {EMBEDDED_PROTEIN.name, EMBEDDED_LIGAND.name, "PROVENANCE.md"}


def test_a_bench_of_ones_own(wheel_complexes):
    protein, ligand = wheel_complexes["1s3v"]
    bench = TestBench(name="1s3v", protein=str(protein), ligand=str(ligand), pocket_radius=None, binding_data="Kd=10nM")
    graph = load_bench(bench, STRUCTURES, GRAPH)
    assert (graph.name, graph.n_nodes, graph.label) == ("1s3v", 1529, pytest.approx(8.0))


def test_one_file_without_the_other():
    with pytest.raises(InputError) as caught:
        load_bench(TestBench(protein="p.pdb"), STRUCTURES, GRAPH)
    assert str(caught.value) == (
        "test_bench.ligand: got nothing beside test_bench.protein = 'p.pdb'; expected both files or neither. "
        "Name the ligand file too, or leave both empty for the embedded complex."
    )
    with pytest.raises(InputError) as caught:
        load_bench(TestBench(ligand="l.sdf"), STRUCTURES, GRAPH)
    assert str(caught.value) == (
        "test_bench.protein: got nothing beside test_bench.ligand = 'l.sdf'; expected both files or neither. "
        "Name the protein file too, or leave both empty for the embedded complex."
    )


def test_binding_data_that_cannot_be_read():
    with pytest.raises(InputError, match=r"^test_bench\.binding_data: got 'strong'"):
        load_bench(TestBench(binding_data="strong"), STRUCTURES, GRAPH)
