"""`compass scan`: flags, tables, reports and exit codes. Structures are read in tests of their own."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from compass.cli.app import app
from compass.cli.scan import _live
from compass.cli.scan_tables import describe_progress, print_summary
from compass.config_files import load_config
from compass.data.scan.catalogue import About, Catalogue
from compass.data.scan.rows import Label, Row
from compass.data.scan.scan import ScanProgress
from compass.data.scan.summary import ScanSummary, summarise_scan


@pytest.fixture(autouse=True)
def _workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_CACHE_HOME", "home")


def compass(*args):
    return CliRunner().invoke(app, ["scan", *args], catch_exceptions=False)


def ok(id_, nodes, **changes):
    return Row(
        **{"id": id_, "status": "ok", "sizes": (("nodes", nodes), ("edges", 20.0 * nodes)), "key": id_, **changes}
    )


ROWS = (
    ok("1abc", 250, label=Label(pk=6.0), split="train"),
    ok("2abc", 240, label=Label(pk=2.0, relation=">"), split="train"),
    ok("3abc", 1300, label=Label(pk=5.0, relation="~"), status="repaired", repairs=("ligand_from_mol2",), notes=("sdf: bad",)),
    ok("4abc", 260, notes=("no label: why",), split="test"),
    Row(id="5abc", status="rejected", reason="no_files", detail="INDEX: got 5abc, which has no folder"),
    Row(id="6abc", status="rejected", reason="no_3d", detail="6abc: flat"),
    Row(id="7abc", status="rejected", reason="no_files", detail="INDEX: got 7abc, which has no folder"),
)  # fmt: skip


def make_catalogue(rows=ROWS, **changes):
    about = About(
        **{
            "source": "/data/set", "labels": "/data/set/INDEX_data", "warnings": ("something odd",), "rules": "r",
            "n_read": 4, "n_known": 1, "took_s": 0.5, **changes,
        }
    )  # fmt: skip
    return Catalogue(Path("home/compass/scans/c.sqlite"), about, tuple(rows))


@pytest.fixture
def asked(monkeypatch):
    """What `scan` was called with; the catalogue is a made-up one, by default of `ROWS`."""
    calls = []
    found = [make_catalogue()]

    def fake(source, rules, cache, *, workers=None, watch=lambda _: None):
        calls.append((source, rules, cache, workers))
        watch(ScanProgress(n_done=1, n_expected=2, n_read=1, n_known=0, n_rejected=0, elapsed_s=1.0))
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0].path

    monkeypatch.setattr("compass.data.scan.scan.scan_source", fake)
    monkeypatch.setattr(Catalogue, "open", lambda _: found[0])
    return SimpleNamespace(calls=calls, finds=lambda catalogue: found.__setitem__(0, catalogue))


def test_the_tables(asked):
    result = compass("set")
    assert result.exit_code == 0
    assert result.stderr == "warning: something odd\n"
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "7 complexes in 500 ms (4 read, 1 unchanged, 2 without files): 10 per second",
        "status                    complexes  for example",
        "ok                                3  1abc, 2abc, 4abc",
        "repaired                          1  3abc",
        "rejected                          3  5abc, 6abc, 7abc",
        "rejected because          complexes  for example",
        "no_files                          2  5abc, 7abc",
        "no_3d                             1  6abc",
        "repaired by               complexes  for example",
        "ligand_from_mol2                  1  3abc",
        "size     min    5 %   25 %   50 %   75 %    95 %    99 %     max",
        "nodes    240    240    240    250    260   1,300   1,300   1,300",
        "edges  4,800  4,800  4,800  5,000  5,200  26,000  26,000  26,000",
        "most edges  3abc (26,000), 4abc (5,200), 1abc (5,000), 2abc (4,800)",
        "labels      1 exact, 1 bounds, 1 about, 1 none, from /data/set/INDEX_data",
        "splits      2 train, 1 test",
        "notes       on 2, for example 3abc, 4abc",
        "catalogue   home/compass/scans/c.sqlite",
        "",
        "next:",
        f"  compass optimize --dataset {Path('set').absolute()}  # find a configuration for each stage",
    ]


@pytest.mark.parametrize("columns", ["80", "60", ""])
def test_counts_are_shown_beside_long_ids(asked, monkeypatch, columns):
    """At 80 columns, at less, and where the output is piped."""
    monkeypatch.setenv("COLUMNS", columns)
    asked.finds(
        make_catalogue([ok(f"a_name_as_long_as_those_of_prepared_systems__1.A_1.B__1.C_{i}", 250) for i in range(1200)])
    )
    lines = compass("set").stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("ok "))
    assert line.startswith("ok                            1,200  a_name_as_long_as")
    assert len(line) <= int(columns or 80)


def test_json_is_all_there_is_on_stdout(asked):
    result = compass("set", "--json", "--report", "out")
    summary = ScanSummary.model_validate_json(result.stdout)
    assert (summary.n_complexes, summary.per_s, summary.largest[0][0]) == (7, 10.0, "3abc")
    assert summary == summarise_scan(make_catalogue())
    assert result.stderr == "warning: something odd\nwrote out/scan.jsonl and out/scan.md\n"


def test_the_reports(asked):
    result = compass("set", "--report", "deep/out")
    assert result.stdout.splitlines()[-4] == "wrote deep/out/scan.jsonl and deep/out/scan.md"
    lines = Path("deep/out/scan.jsonl").read_text().splitlines()
    assert tuple(Row.model_validate_json(line) for line in lines) == ROWS
    assert json.loads(lines[4])["reason"] == "no_files"
    assert Path("deep/out/scan.md").read_text() == (
        "# Scan of /data/set\n\n"
        "7 complexes in 500 ms (4 read, 1 unchanged, 2 without files): 10 per second.\n\n"
        "- **most edges**: 3abc (26,000), 4abc (5,200), 1abc (5,000), 2abc (4,800)\n"
        "- **labels**: 1 exact, 1 bounds, 1 about, 1 none, from /data/set/INDEX\\_data\n"
        "- **splits**: 2 train, 1 test\n"
        "- **notes**: on 2, for example 3abc, 4abc\n"
        "- **catalogue**: home/compass/scans/c.sqlite\n"
        "- **warning**: something odd\n\n"
        "| status | complexes |\n|---|---|\n| ok | 3 |\n| repaired | 1 |\n| rejected | 3 |\n\n"
        "| size | min | 5 % | 25 % | 50 % | 75 % | 95 % | 99 % | max |\n|---|---|---|---|---|---|---|---|---|\n"
        "| nodes | 240 | 240 | 240 | 250 | 260 | 1,300 | 1,300 | 1,300 |\n"
        "| edges | 4,800 | 4,800 | 4,800 | 5,000 | 5,200 | 26,000 | 26,000 | 26,000 |\n\n"
        "## Rejected: no_files (2)\n\n"
        "- 5abc: INDEX: got 5abc, which has no folder\n- 7abc: INDEX: got 7abc, which has no folder\n\n"
        "## Rejected: no_3d (1)\n\n- 6abc: 6abc: flat\n\n"
        "## Repaired: ligand_from_mol2 (1)\n\n- 3abc: sdf: bad\n\n"
        "## Notes (1)\n\n- 4abc: no label: why\n"
    )


def test_a_report_names_a_hundred_and_counts_the_rest(asked):
    asked.finds(
        make_catalogue([*ROWS, *(Row(id=f"n{i}", status="rejected", reason="no_3d", detail="d") for i in range(150))])
    )
    compass("set", "--report", "out")
    lines = Path("out/scan.md").read_text().splitlines()
    assert "## Rejected: no_3d (151)" in lines
    assert "- … and 51 more, in scan.jsonl" in lines


def test_nothing_that_can_be_used(asked):
    asked.finds(make_catalogue(ROWS[4:], n_read=1, n_known=0))
    result = compass("set")
    assert result.exit_code == 3
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "3 complexes in 500 ms (1 read, 0 unchanged, 2 without files): 2 per second",
        "status                    complexes  for example",
        "ok                                0",
        "repaired                          0",
        "rejected                          3  5abc, 6abc, 7abc",
        "rejected because          complexes  for example",
        "no_files                          2  5abc, 7abc",
        "no_3d                             1  6abc",
        "catalogue  home/compass/scans/c.sqlite",
    ]
    assert result.stderr == "warning: something odd\nerror: none of the complexes of /data/set can be used\n"


def test_without_flags(asked):
    assert compass("set").exit_code == 0
    assert asked.calls == [(Path("set"), load_config(), Path("home/compass"), None)]


def test_every_flag_reaches_the_scan(asked):
    Path("c.toml").write_text("seed = 5")
    result = compass(
        "set", "--index", "my.txt", "--pocket-radius", "6.5", "--max-atoms", "500", "--workers", "3", "--cache", "kept",
        "--config", "c.toml", "--set", "graph.cutoff=6.0",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    changes = [
        "seed=5",
        "graph.cutoff=6.0",
        "dataset.index=my.txt",
        "dataset.pocket_radius=6.5",
        "dataset.max_atoms=500",
    ]
    assert asked.calls == [(Path("set"), load_config(None, changes), Path("kept"), 3)]


def test_the_whole_protein(asked):
    compass("set", "--pocket-radius", "None")
    assert asked.calls[0][1].dataset.pocket_radius is None


def test_an_interrupt_keeps_what_was_read(asked):
    asked.finds(KeyboardInterrupt())
    result = compass("set")
    assert (result.exit_code, result.stdout, result.stderr) == (
        130, "", "interrupted: results so far are kept; the same command continues\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--workers", "0"], "workers: got 0; expected a whole number above zero. "
                             "Give the processes that may run, or leave it out."),
        (["--only", "1abc", "--json"], "--only: got --json as well; expected one of the two. Leave one out."),
        (["--only", "1abc", "--report", "r"], "--only: got --report as well; expected one of the two. Leave one out."),
        (["--report", "file/r"], "output file/r: got Not a directory; expected a file in a writable folder. "
                                 "Choose another --report."),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_starts(asked, args, message):
    Path("file").touch()
    result = compass("set", *args)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {message}\n")
    assert asked.calls == []


def test_a_radius_that_is_none_of_them(asked):
    result = compass("set", "--pocket-radius", "wide")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --pocket-radius: got 'wide'; expected ")


def test_no_such_dataset():
    result = compass("nowhere")
    assert (result.exit_code, result.stdout, result.stderr) == (
        2, "", "error: dataset nowhere: got no such folder or file; "
               "expected a folder, or a manifest that ends in .csv or .parquet. Check the path.\n",
    )  # fmt: skip
    assert not Path("home").exists()


@pytest.mark.parametrize(("elapsed_s", "text"), [(0.0, "30/1,090, 0/s"), (0.5, "30/1,090, 60/s, 17.7 s left")])
def test_progress(elapsed_s, text):
    now = ScanProgress(n_done=30, n_expected=1090, n_read=30, n_known=0, n_rejected=0, elapsed_s=elapsed_s)
    assert describe_progress(now) == text


def test_progress_on_a_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=80)
    with _live(console) as watch:
        watch(ScanProgress(n_done=30, n_expected=90, n_read=30, n_known=0, n_rejected=0, elapsed_s=0.5))
    assert "30/90, 60/s, 1.0 s left" in console.file.getvalue()


def test_progress_without_a_terminal(monkeypatch):
    seconds = iter(range(0, 10_000, 7))
    monkeypatch.setattr("compass.cli.progress.PlainLines.__init__.__defaults__", (lambda: float(next(seconds)),))
    console = Console(file=io.StringIO(), force_terminal=False)
    with _live(console) as watch:
        for n_done in range(0, 90, 10):
            watch(ScanProgress(n_done=n_done, n_expected=90, n_read=30, n_known=0, n_rejected=0, elapsed_s=n_done / 10))
    assert console.file.getvalue() == "scan: 40/90, 10/s, 5.0 s left\n"


def test_a_fast_scan_is_told_in_whole_complexes(capsys):
    print_summary(summarise_scan(make_catalogue(n_read=0, n_known=20_000, took_s=10.0)))
    assert ": 2,000 per second" in capsys.readouterr().out


# -------------------------------------------------------------------------------------------------------------- --only


@pytest.fixture
def one(tmp_path, monkeypatch):
    """A dataset of one complex whose ligand is missing."""
    monkeypatch.setattr("compass.probe.store.default_cache", None)  # no cache is looked for
    (tmp_path / "set/1abc").mkdir(parents=True)
    (tmp_path / "set/1abc/1abc_protein.pdb").touch()


@pytest.mark.usefixtures("one")
def test_a_replay_of_what_is_rejected():
    result = compass("set", "--only", "1ABC")
    assert (result.exit_code, result.stderr) == (3, "")
    assert result.stdout == (
        "id             1abc\n"
        "label          none\n"
        "outcome        rejected, missing: 1abc: got no ligand file beside 1abc_protein.pdb; expected 1abc_ligand with one "
        "of .sdf, .sd, .mol, .mol2, plain or followed by .gz. Fetch the files again, or remove the folder.\n"
    )


@pytest.mark.usefixtures("one")
def test_a_replay_of_nobody():
    result = compass("set", "--only", "1abd")
    assert (result.exit_code, result.stderr) == (
        2, "error: --only: got '1abd'; expected one of the 1 ids of set. Did you mean 1abc?\n",
    )  # fmt: skip
