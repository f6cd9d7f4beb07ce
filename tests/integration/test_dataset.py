"""A scanned dataset as it is trained on: the policies for its largest members, on real structures."""

import gzip
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from compass.config_files import load_config
from compass.data.graphs.bench import EMBEDDED_LIGAND, EMBEDDED_PROTEIN
from compass.data.graphs.dataset import Dataset
from compass.data.graphs.graph_packing import pack_graphs
from compass.data.scan.catalogue import Catalogue
from compass.data.scan.scan import scan_source
from compass.data.sizes import summarise_sizes
from compass.data.structures.graphs import graph_load
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
    return scan_source(root, rules(), tmp_path_factory.mktemp("cache"), workers=1)


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


def test_labels_and_splits_change_nothing_that_was_measured(catalogue, tmp_path):
    before = Dataset(rules(catalogue=catalogue))
    root = before.catalogue.about.source
    index = tmp_path / "INDEX"
    index.write_text("1abc  2.00  2001  Ki=3uM  // x.pdf (MQ1)\n")
    after = Dataset(rules(catalogue=scan_source(Path(root), rules(f"dataset.index={index}"), tmp_path, workers=1)))
    assert after.catalogue.digest != before.catalogue.digest
    assert after.digest == before.digest


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
    found = summarise_sizes(Catalogue.open(Path(catalogue)), rules(catalogue=catalogue).dataset)
    assert (found.n_complexes, found.n_usable, found.n_labelled, found.n_trained) == (5, 5, 4, 4)
    assert found.oversize == ("5abc",)
    assert [name for name, _ in found.largest] == [f"{i}abc" for i in range(5, 0, -1)]
    for size in found.sizes:
        assert sum(count for _, count in size.histogram) == 5
        values = [value for _, value in size.quantiles]
        assert values == sorted(values)


def test_refusing_leaves_fewer_to_feed_the_parameters(catalogue):
    found = summarise_sizes(Catalogue.open(Path(catalogue)), rules("dataset.oversize=refuse").dataset)
    assert found.n_trained == 3


def test_packed_graphs_are_those_that_are_built(catalogue, tmp_path):
    copy = shutil.copy(catalogue, tmp_path / "c.sqlite")
    config = rules("dataset.oversize=crop", catalogue=copy)
    built = Dataset(config)
    seen = []
    path = pack_graphs(config, watch=lambda *now: seen.append(now))
    assert seen[-1] == (N, N)
    packed = Dataset(config)
    assert path == packed.store_path
    for name in built.names:
        one, other = built.build(name), packed.graph(name)
        assert (one.name, one.label, one.relation) == (other.name, other.label, other.relation)
        for field in ("elements", "positions", "is_ligand", "edge_index"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
            assert getattr(one, field).dtype == getattr(other, field).dtype
    assert packed.loads == built.loads
    before = path.stat()
    assert pack_graphs(config) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    again = pickle.loads(pickle.dumps(packed))  # noqa: S301 - our own
    assert again.graph("2abc").label == packed.graph("2abc").label


def test_a_damaged_store_costs_time_only(catalogue, tmp_path):
    config = rules(catalogue=shutil.copy(catalogue, tmp_path / "c.sqlite"))
    path = pack_graphs(config)
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    dataset = Dataset(config)
    for name in dataset.names:
        np.testing.assert_array_equal(dataset.graph(name).edge_index, dataset.build(name).edge_index)


def test_what_the_dataset_was_before_is_removed(catalogue, tmp_path):
    copy = shutil.copy(catalogue, tmp_path / "c.sqlite")
    first = pack_graphs(rules(catalogue=copy))
    fresh, abandoned = (first.with_name(f"{first.name}.{name}.part") for name in ("new", "old"))
    fresh.touch()
    abandoned.touch()
    os.utime(abandoned, (1e9, 1e9))
    second = pack_graphs(rules("dataset.oversize=crop", catalogue=copy))
    assert {path.name for path in tmp_path.iterdir()} == {"c.sqlite", second.name, fresh.name}


def test_a_store_that_cannot_be_written_is_done_without(catalogue, tmp_path, monkeypatch, caplog):
    config = rules(catalogue=shutil.copy(catalogue, tmp_path / "c.sqlite"))

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compass.data.graphs.graph_packing.write_store", full)
    assert pack_graphs(config) is None
    assert Dataset(config).graph("1abc").n_nodes
    assert caplog.messages == [
        f"graphs are built again for every batch, because {Dataset(config).store_path} cannot be written (No space left on device)"
    ]


def test_packing_in_processes_gives_the_same(catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr("compass.data.graphs.graph_packing.PER_WORKER", 2)
    one, two = (rules(catalogue=shutil.copy(catalogue, tmp_path / f"{name}.sqlite")) for name in "ab")
    alone, together = pack_graphs(one, workers=1), pack_graphs(two, workers=2)
    assert alone.stat().st_size == together.stat().st_size
    left, right = Dataset(one), Dataset(two)
    for name in left.names:
        np.testing.assert_array_equal(left.graph(name).edge_index, right.graph(name).edge_index)
