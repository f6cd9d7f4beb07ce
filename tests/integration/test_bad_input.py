"""Whatever cannot be used ends in one line that says what, where, why and what to do; and leaves nothing half-written."""

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compass.cli.app import app
from compass.data.graphs.bench import EMBEDDED_LIGAND, EMBEDDED_PROTEIN
from compass.errors import InputError
from compass.probe.worker import serve
from compass.profile import SCHEMA_VERSION, read_profile
from compass.records import STAGES

PDB = gzip.decompress(EMBEDDED_PROTEIN.read_bytes()).decode()
SDF = EMBEDDED_LIGAND.read_text()
WATER = "HETATM    1  O   HOH A   1       8.000  36.000  19.000  1.00 10.00           O\nEND\n"
FLAT = re.sub(r"^( +-?\d+\.\d{4} +-?\d+\.\d{4}) +-?\d+\.\d{4}", r"\1    0.0000", SDF, flags=re.MULTILINE)
LOG = "hardware_optimizer.log"


class WorkerHere:
    """A worker without a process of its own: the same requests, the same answers, without three seconds of start-up."""

    peak_footprint_bytes = 0
    is_alive = True

    def __init__(self, runtime, opening):
        self._lines = []
        self.ask({"op": "open", **opening}, timeout_s=60)

    def wait(self):
        pass

    def ask(self, request, *, timeout_s):
        self._lines.append(json.dumps(request))
        answers = io.StringIO()
        serve(self._lines, answers)
        answer = json.loads(answers.getvalue().splitlines()[-1])
        if "bad_input" in answer:
            raise InputError(**answer["bad_input"])
        assert "ok" in answer, answer
        return answer["ok"]

    def kill(self):
        pass


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, holding one good complex."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.pdb").write_text(PDB)
    (tmp_path / "l.sdf").write_text(SDF)
    return tmp_path


@pytest.fixture
def refused(folder, monkeypatch):
    """Runs `compass optimize` with its worker in this process; gives the one line it ends with."""
    monkeypatch.setattr("compass.probe.local.WorkerProcess", WorkerHere)
    monkeypatch.setattr("gc.freeze", lambda: None)  # this process has more to do

    def run(*args, **files):
        for name, content in files.items():
            write = folder.joinpath(name.replace("_", ".")).write_bytes
            write(content.encode() if isinstance(content, str) else content)
        before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        args = ["optimize", "--device", "cpu", "--cache", "cache", "--log-level", "warning", *args]
        result = CliRunner().invoke(app, args, catch_exceptions=False)
        assert (result.exit_code, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != LOG}
        assert after == before
        return line

    return run


# ------------------------------------------------------------------------------------------------------------ structures


@pytest.mark.parametrize(
    ("files", "args", "line"),
    [
        ({}, ["--protein", "no.pdb", "--ligand", "l.sdf"],
         "no.pdb: got no such file; expected a PDB or mmCIF file. Check the path."),
        ({}, ["--protein", "p.pdb", "--ligand", "no.sdf"],
         "no.sdf: got no such file; expected an SDF or MOL2 file. Check the path."),
        ({"p_pdb": ""}, [],
         "p.pdb: got an empty file; expected a PDB or mmCIF file. Fetch or export the file again."),
        ({"l_sdf": " \n"}, [],
         "l.sdf: got an empty file; expected an SDF or MOL2 file. Fetch or export the file again."),
        ({"p_pdb": b"\x7fELF\0\0"}, [],
         "p.pdb: got binary data; expected a PDB or mmCIF file as text. "
         "If the file is gzipped, end its name with .gz; otherwise export it again as text."),
        ({"l_sdf": SDF[:600]}, [],
         "l.sdf: got a molecule that ends before its 'M  END'; expected a complete file. Fetch the file again."),
        ({"l_sdf": FLAT}, [],
         "l.sdf: got a ligand without three-dimensional coordinates (every z is 0); "
         "expected the pose bound to the protein. Give the docked or crystal pose, not a drawing."),
        ({"p_pdb": WATER}, [],
         "p.pdb: got no atoms after waters, metals and cofactors were dropped; expected at least one protein atom. "
         "Check that the file holds the protein, or keep more in structures.waters, .metals or .cofactors."),
        ({}, ["--protein", "p.pdb", "--ligand", "l.sdf", "--max-atoms", "100"],
         "p.pdb: got 250 atoms; expected at most max_atoms = 100. Raise max_atoms, or set a smaller pocket_radius."),
        ({}, ["--protein", "p.pdb"],
         "p.pdb'; expected both files or neither. "
         "Name the ligand file too, or leave both empty for the embedded complex."),
    ],
    ids=["no protein", "no ligand", "empty", "blank", "binary", "cut", "flat", "no atoms", "too many", "one of two"],
)  # fmt: skip
def test_structures(refused, files, args, line):
    assert refused(*(args or ["--protein", "p.pdb", "--ligand", "l.sdf"]), **files).endswith(line)


def test_a_protein_that_is_cut(refused):
    cut = EMBEDDED_PROTEIN.read_bytes()[:20_000]
    assert refused("--protein", "p.pdb.gz", "--ligand", "l.sdf", p_pdb_gz=cut).endswith(
        "p.pdb.gz: got a gzip stream that ends early; expected a complete file. Fetch the file again."
    )


# ---------------------------------------------------------------------------------------------------- flags and settings


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--memory-limit", "-2GiB"],
         "error: --memory-limit: got '-2GiB'; expected a size above zero. Give the memory that may be used."),
        (["--memory-limit", "0"],
         "error: --memory-limit: got '0'; expected a size above zero. Give the memory that may be used."),
        (["--memory-limit", "much"],
         "error: --memory-limit: got 'much'; expected a size such as 6GiB, 512MB or 1073741824. "
         "Write a number and a unit."),
        (["--dataset-size", "0"], "error: --dataset-size: got '0'; expected a whole number above zero, such as 19000 or 19k. "
         "Give the number of complexes, or other samples, that you train on."),
        (["--dataset-size", "-5"], "error: --dataset-size: got '-5'; expected a whole number above zero, such as 19000 or 19k. "
         "Give the number of complexes, or other samples, that you train on."),
        (["--set", "stages.prototyping.target=9"],
         r"error: --set stages.prototyping.target: got .*; expected .*target_s.*"),
        (["--set", "batch.min_batch=-1"], r"error: --set batch.min_batch: got -1; expected .*"),
        (["--config", "no.toml"], r"error: config no.toml: got No such file or directory; expected .*"),
        (["--device", "tpu"], r"error: device: got 'tpu'; expected one of .*cpu. Choose one of these.*"),
        (["--workload", "nothing"], r"error: workload: got nothing; expected one of .*visnet.*. Name one of these."),
        (["--set", "space.options.heads=0"],
         "error: space.options.heads: got 0; expected a whole number above zero. PyG's ViSNet has 8."),
        (["--set", "space.options.heads=300"],
         r"error: space: got no model of 2 to \d+ layers and 16 to \d+ channels in steps of 1200 with 12 to 32 "
         r"channels a layer; expected at least one. Widen space.layers, space.channels or space.channels_per_layer."),
        (["--set", "space.channels_per_layer=[500,600]"],
         r"error: space: got no model of 2 to \d+ layers and 16 to \d+ channels in steps of 16 with 500 to 600 "
         r"channels a layer; expected at least one. Widen space.layers, space.channels or space.channels_per_layer."),
        (["--out", "no/p.json"],
         "error: output no/p.json: got No such file or directory; expected a file in a writable folder. "
         "Choose another --out."),
        (["--out", "."],
         "error: output .: got Is a directory; expected a file in a writable folder. Choose another --out."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_flags_and_settings(refused, args, line):
    assert re.fullmatch(line.replace("[", "\\[") if "\\" not in line else line, refused(*args))


def test_an_unknown_key_in_a_file(refused):
    line = refused("--config", "c.toml", c_toml="[batch]\nmax_bach = 9\n")
    assert re.fullmatch(r"error: config c.toml: batch.max_bach: got .*; expected .*max_batch.*", line)


def test_a_profile_of_a_newer_compass_is_not_overwritten(refused):
    line = refused("--out", "q.json", q_json=json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    assert line == (
        f"error: profile q.json: got schema version {SCHEMA_VERSION + 1}; expected at most {SCHEMA_VERSION}. "
        "Upgrade Compass, or write the profile anew."
    )


# -------------------------------------------------------------------------------------------------- with a real worker


def start(*args):
    words = [
        sys.executable,
        "-m",
        "compass",
        "optimize",
        "--device",
        "cpu",
        "--cache",
        "cache",
        "--dataset-size",
        "19000",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*words, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )  # fmt: skip


QUICK = [
    word
    for change in (
        *(f"stages.{stage}.checkpointing=[false]" for stage in STAGES[1:]),
        "probe.micro_loads=[[100,8],[300,32]]", "probe.micro_architectures=[[3,16],[6,64]]",
        "probe.extra_architectures=[]", "probe.anchor_architectures_cpu=[[2,32]]", "probe.anchor_step_s_cpu=[0.1]",
        "runtime.threads=1", "runtime.waiting=sleep", *(f'stages.{stage}.allocator=["fast"]' for stage in STAGES),
    )
    for word in ("--set", change)
]  # fmt: skip
"""The barest calibration: what is found does not matter here."""


def test_a_limit_below_an_idle_worker_and_one_just_above(folder):
    process = start("--memory-limit", "100MiB")
    said, error = process.communicate(timeout=280)
    assert (process.returncode, said) == (2, "")
    match = re.fullmatch(
        r"error: memory limit: got 100.00 MiB; expected at least (\d+\.\d+) MiB, of which an idle worker holds "
        r"\d+\.\d+ MiB. Raise --memory-limit or free memory.\n",
        error,
    )
    assert match, error
    assert {path.name for path in folder.iterdir()} == {"p.pdb", "l.sdf", "cache", LOG}

    limit = f"{float(match[1]) + 4:.0f}MiB"
    args = ["--stages", "production", "--log-level", "error", "--pocket-radius", "14"]
    process = start("--memory-limit", limit, *args, *QUICK)
    said, error = process.communicate(timeout=280)
    assert process.returncode == 3, error
    assert "production: no plan, limited by memory: " in error.splitlines()[-1]
    assert "Nearest miss: 2 × 32 fp32, batch 1, " in error.splitlines()[-1]
    assert "wrote hardware_profile.json" in said
    assert set(read_profile(folder / "hardware_profile.json").failures) == {"production"}


def test_an_interrupt_is_exit_code_130(folder):
    process = start("--memory-limit", "2GiB", *QUICK)
    deadline = time.monotonic() + 120
    while "calibrate" not in (folder / LOG).read_text() if (folder / LOG).exists() else True:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert error.splitlines()[-1] == "interrupted: finished stages are kept in hardware_profile.json"
    assert {path.name for path in folder.iterdir()} == {"p.pdb", "l.sdf", "cache", LOG}
