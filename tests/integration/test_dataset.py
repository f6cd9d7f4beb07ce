"""A scanned dataset as it is trained on: the policies for its largest members, on real structures."""

import gzip
import shutil
from pathlib import Path

import pytest

from compass.config_files import load_config
from compass.data.bench import EMBEDDED_LIGAND, EMBEDDED_PROTEIN
from compass.data.catalogue import Catalogue
from compass.data.dataset import Dataset
from compass.data.graphs import graph_load
from compass.data.scan import scan
from compass.data.sizes import summarise
from compass.records import Batch
from compass.workloads.visnet import ViSNetWorkload

N = 5


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """The embedded complex with ever more of its protein; 5abc is the largest."""
    root = tmp_path_factory.mktemp("set")
    lines = gzip.decompress(EMBEDDED_PROTEIN.read_bytes()).decode().splitlines()
    atoms = [line for line in lines if line.startswith(("ATOM", "HETATM"))]
    index = []
    for i in range(1, N + 1):
        folder = root / f"{i}abc"
        folder.mkdir()
        kept = atoms[: len(atoms) * (i + 4) // (N + 4)]
        (folder / f"{i}abc_protein.pdb").write_text("\n".join([*kept, "END", ""]))
        shutil.copy(EMBEDDED_LIGAND, folder / f"{i}abc_ligand.sdf")
        index.append(f"{i}abc  2.00  2001  Kd=10nM  // x.pdf (MQ1)\n")
    (root / "INDEX_general_PL.2020").write_text("".join(index[1:]))
    return scan(root, rules(), tmp_path_factory.mktemp("cache"), workers=1)


def rules(*changes, catalogue=""):
    return load_config(None, [f"dataset.catalogue={catalogue}", "dataset.oversize_share=0.2", *changes])


def test_every_complex_is_there_with_the_load_of_its_graph(catalogue):
    dataset = Dataset(rules(catalogue=catalogue))
    assert list(dataset.loads) == [f"{i}abc" for i in range(1, N + 1)]
    assert all(graph_load(dataset.graph(name)) == load for name, load in dataset.loads.items())
    assert dataset.graph("1abc").label == 0.0
    assert dataset.graph("2abc").label == pytest.approx(8.0)


def test_the_oversize_are_refused_by_policy(catalogue):
    dataset = Dataset(rules("dataset.oversize=refuse", catalogue=catalogue))
    assert list(dataset.loads) == ["1abc", "2abc", "3abc", "4abc"]
    with pytest.raises(KeyError):
        dataset.graph("5abc")


def test_the_oversize_are_cropped_to_the_largest_that_stays(catalogue):
    whole, cropped = (
        Dataset(rules(f"dataset.oversize={policy}", catalogue=catalogue)) for policy in ("isolate", "crop")
    )
    limit, large, small = whole.loads["4abc"], whole.loads["5abc"], cropped.loads["5abc"]
    assert all(small[name] <= limit[name] < large[name] for name in ("nodes", "edges"))
    assert small["nodes"] >= 0.8 * limit["nodes"]
    assert cropped.graph("5abc").is_ligand.sum() == whole.graph("5abc").is_ligand.sum()
    assert cropped.loads["4abc"] == limit


def test_the_digest_follows_the_policy(catalogue):
    digests = {
        Dataset(rules(f"dataset.oversize={p}", catalogue=catalogue)).digest for p in ("isolate", "crop", "refuse")
    }
    assert len(digests) == 3


def test_a_workload_collates_what_is_asked_for(catalogue):
    workload = ViSNetWorkload(rules(catalogue=catalogue))
    batch = Batch(members=(("1abc", 1), ("3abc", 2)))
    collated, load = workload.collate(batch), workload.load(batch)
    assert (len(collated.labels), len(collated.kinds), collated.edge_index.shape[1]) == (
        3,
        load["nodes"],
        load["edges"],
    )


def test_the_summary_counts_what_there_is(catalogue):
    found = summarise(Catalogue.open(Path(catalogue)), rules(catalogue=catalogue).dataset)
    assert (found.n_complexes, found.n_usable, found.n_labelled, found.n_trained) == (5, 5, 4, 4)
    assert found.oversize == ("5abc",)
    assert [name for name, _ in found.largest] == [f"{i}abc" for i in range(5, 0, -1)]
    for size in found.sizes:
        assert sum(count for _, count in size.histogram) == 5
        values = [value for _, value in size.quantiles]
        assert values == sorted(values)


def test_refusing_leaves_fewer_to_feed_the_parameters(catalogue):
    found = summarise(Catalogue.open(Path(catalogue)), rules("dataset.oversize=refuse").dataset)
    assert found.n_trained == 3
