"""Scans of real structures in real processes, which are killed, interrupted and started again."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest

from compass.data.graphs.bench import EMBEDDED_LIGAND, EMBEDDED_PROTEIN, load_bench
from compass.data.scan.catalogue import Catalogue
from compass.data.scan.rows import Label
from compass.data.scan.scan import scan_source
from compass.data.structures.graphs import build_graph, graph_load
from compass.data.structures.ligand import read_ligand
from compass.optimizer_config import OptimizerConfig

RULES = OptimizerConfig()
WHEEL = Path(find_spec("posebusters").origin).parent / "datasets" / "pdb"
HANGS = "0_hangs"
"""The id of a complex whose reading does not end."""
HANGING = """
import os, sys, time

def wait(event, args):
    if event == "open" and str(args[0]).endswith("hangs.pdb") and os.path.exists(HOLD):
        os.makedirs(SEEN, exist_ok=True)
        while os.path.exists(HOLD):
            time.sleep(0.05)

sys.addaudithook(wait)
"""
"""`sitecustomize` of the reading processes: to open `hangs.pdb` takes as long as the file HOLD exists, and makes SEEN."""


def mol2_of(sdf):
    """The atoms of an SDF file in MOL2's words."""
    atoms = read_ligand(sdf)
    symbols = {6: "C.3", 7: "N.3", 8: "O.3", 1: "H", 15: "P.3", 16: "S.3", 9: "F", 17: "Cl"}
    lines = [
        f"{i} A{i} {x:.4f} {y:.4f} {z:.4f} {symbols[element]} 1 LIG 0.0"
        for i, (element, (x, y, z)) in enumerate(zip(atoms.elements, atoms.positions, strict=True), start=1)
    ]
    return "\n".join(
        ["@<TRIPOS>MOLECULE", "x", f"{len(lines)} 0 1", "SMALL", "NO_CHARGES", "", "@<TRIPOS>ATOM", *lines, "@<TRIPOS>BOND", ""]
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------- real structures


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The complexes of the posebusters wheel, plain and gzipped and nested and damaged, and an index of them."""
    root = tmp_path_factory.mktemp("pdbbind")

    def put(place, source, *, protein=".pdb", ligand=".sdf", broken=False):
        folder = root / place
        folder.mkdir(parents=True)
        read = {
            "protein": (WHEEL / source / f"{source}_protein_one_lig_removed.pdb").read_bytes(),
            "ligand": (WHEEL / source / f"{source}_ligand.sdf").read_bytes(),
        }
        for part, extension in (("protein", protein), ("ligand", ligand)):
            data = gzip.compress(read[part]) if extension.endswith(".gz") else read[part]
            (folder / f"{folder.name}_{part}{extension}").write_bytes(data)
        if broken:
            sdf = folder / f"{folder.name}_ligand.sdf"
            (folder / f"{folder.name}_ligand.mol2").write_text(mol2_of(sdf))
            sdf.write_bytes(read["ligand"][:200])

    put("refined-set/1s3v", "1s3v")
    put("refined-set/1uou", "1uou", protein=".pdb.gz", ligand=".sdf.gz")
    put("v2020-other-PL/1ia1", "1ia1", broken=True)
    put("v2020-other-PL/1of6", "1of6")
    put("v2020-other-PL/2of6", "1of6", ligand=".mol2")  # an SDF by another name
    (root / "index").mkdir()
    (root / "index" / "INDEX_general_PL_data.2020").write_text(
        "1s3v  1.80  2004   7.00  Kd=100nM // 1s3v.pdf (TQD)\r\n"
        "1uou  2.11  2004   Ki>20nM // 1uou.pdf (CMU)\r\n"
        "1ia1  1.70  2001   Ki=1.4nM // 1ia1.pdf (TQ3)\r\n"
        "9xyz  NMR   2001   Ki=1nM // 9xyz.pdf (XYZ)\r\n"
    )
    return root


@pytest.fixture(scope="module")
def catalogue(tree, tmp_path_factory):
    return Catalogue.open(scan_source(tree, RULES, tmp_path_factory.mktemp("cache"), workers=2))


def test_real_complexes(catalogue, tree):
    assert [(row.id, row.status, row.reason, row.repairs) for row in catalogue.rows] == [
        ("1ia1", "repaired", "", ("ligand_from_mol2",)),
        ("1of6", "ok", "", ()),
        ("1s3v", "ok", "", ()),
        ("1uou", "ok", "", ()),
        ("2of6", "rejected", "unreadable", ()),
        ("9xyz", "rejected", "no_files", ()),
    ]
    rows = {row.id: row for row in catalogue.rows}
    assert rows["1s3v"].label == Label(pk=rows["1s3v"].label.pk, kind="Kd")
    assert (rows["1uou"].label.relation, rows["1uou"].resolution, rows["9xyz"].resolution) == ("<", 2.11, None)
    assert rows["1of6"].notes == ("no label: not in INDEX_general_PL_data.2020",)
    assert catalogue.about.labels == str(tree / "index/INDEX_general_PL_data.2020")


def test_a_graph_from_the_catalogue_is_that_of_the_files(catalogue):
    bench = load_bench(RULES.test_bench, RULES.structures, RULES.graph)
    graph = build_graph(catalogue.complex("1ia1"), RULES.graph, 0.0)
    np.testing.assert_array_equal(graph.edge_index, bench.edge_index)
    np.testing.assert_array_equal(graph.positions, bench.positions)
    (row,) = (row for row in catalogue.rows if row.id == "1ia1")
    assert row.sizes == graph_load(bench).sizes


def test_the_next_scan_reads_nothing(catalogue, tree):
    again = Catalogue.open(scan_source(tree, RULES, catalogue.path.parents[1], workers=1))
    assert (again.rows, again.digest) == (catalogue.rows, catalogue.digest)
    assert (again.about.n_read, again.about.n_known) == (0, 5)


def test_a_replay_from_the_command_line(tree):
    done = compass(tree, "--only", "1ia1")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(maxsplit=1)[0] for line in done.stdout.splitlines()] == [
        "id", "label", "ligand", "truncated", "ligand", "atoms", "protein", "atoms", "used", "cleaned", "pocket", "graph",
        "repair", "note", "outcome",
    ]  # fmt: skip
    assert "pocket         231 protein atoms within 8 Å, 19 ligand atoms" in done.stdout


# ---------------------------------------------------------------------------------------------------- processes that end


def compass(*args):
    command = [sys.executable, "-m", "compass", "scan", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """Twenty complexes that are read at once, and one that hangs; it comes last, in a chunk with four others."""
    site = tmp_path / "site"
    site.mkdir()
    hold, seen = tmp_path / "hold", tmp_path / "seen"
    (site / "sitecustomize.py").write_text(f"HOLD, SEEN = {str(hold)!r}, {str(seen)!r}\n{HANGING}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))
    hold.touch()
    (tmp_path / "hangs.pdb").write_bytes(gzip.decompress(EMBEDDED_PROTEIN.read_bytes()))
    lines = ["id,protein,ligand,label"]
    for number in range(20):
        (tmp_path / f"{number}.sdf").write_bytes(EMBEDDED_LIGAND.read_bytes())  # files of other names are other files
        lines.append(f"0{number:02},{EMBEDDED_PROTEIN},{number}.sdf,6.5")
    lines.append(f"{HANGS},hangs.pdb,0.sdf,")
    path = tmp_path / "data.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def workers_of(pid):
    return [child for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]


def wait_until(true, *, within_s=30.0):
    until = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_worker_that_is_killed_costs_one_complex(manifest, tmp_path):
    seen, over = tmp_path / "seen", threading.Event()
    n_killed = 0

    def kill_whoever_reads_it():
        nonlocal n_killed
        while not over.wait(0.01):
            if seen.exists():
                workers = workers_of(os.getpid())
                for worker in workers:
                    with suppress(psutil.NoSuchProcess):
                        worker.kill()
                psutil.wait_procs(workers, timeout=10)
                seen.rmdir()
                n_killed += 1

    killer = threading.Thread(target=kill_whoever_reads_it)
    killer.start()
    try:
        catalogue = Catalogue.open(scan_source(manifest, RULES, tmp_path / "cache", workers=2))
    finally:
        over.set()
        killer.join()
    assert n_killed == 2  # among the others, then alone
    assert [row.status for row in catalogue.rows] == ["ok"] * 20 + ["rejected"]
    row = catalogue.rows[-1]
    assert (row.id, row.reason, row.key) == (HANGS, "crashed", "")
    assert row.detail == (
        "the process that read it died twice, the second time with this complex alone. Replay it with `compass scan … --only`"
    )


def n_results(cache):
    found = list(cache.glob("scans/*.sqlite"))
    if not found:
        return 0
    with suppress(sqlite3.Error), closing(sqlite3.connect(found[0])) as db:
        return db.execute("SELECT count(*) FROM results").fetchone()[0]
    return 0


@pytest.fixture
def hanging(manifest, tmp_path):
    """A scan in a process group of its own that has read all but the last chunk, where it hangs."""
    cache = tmp_path / "cache"
    command = [sys.executable, "-m", "compass", "scan", str(manifest), "--cache", str(cache), "--workers", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_until(lambda: n_results(cache) >= 16)
    wait_until((tmp_path / "seen").exists)
    yield process
    process.kill()
    process.communicate()


def resumed(manifest, tmp_path):
    """The scan again, in which nothing hangs."""
    (tmp_path / "hold").unlink()
    done = compass(manifest, "--cache", tmp_path / "cache", "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_killed_scan_goes_on(hanging, manifest, tmp_path):
    workers = workers_of(hanging.pid)
    assert len(workers) == 1
    assert n_results(tmp_path / "cache") == 16
    hanging.kill()
    hanging.wait()
    gone, _ = psutil.wait_procs(workers, timeout=10)
    assert gone == workers  # nobody is left behind
    summary = resumed(manifest, tmp_path)
    assert (summary["n_complexes"], summary["n_known"], summary["n_read"]) == (21, 16, 5)


def test_an_interrupted_scan_ends_at_once_and_goes_on(hanging, manifest, tmp_path):
    workers = workers_of(hanging.pid)
    os.killpg(hanging.pid, signal.SIGINT)  # as a terminal does
    out, err = hanging.communicate(timeout=10)
    assert (hanging.returncode, out) == (130, "")
    assert err == "interrupted: results so far are kept; the same command continues\n"
    gone, _ = psutil.wait_procs(workers, timeout=10)
    assert gone == workers
    summary = resumed(manifest, tmp_path)
    assert (summary["n_known"], summary["n_read"]) == (16, 5)  # all that had come back before
