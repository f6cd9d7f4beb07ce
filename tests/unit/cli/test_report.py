"""`compass report`, `explain` and `compare`: what they write, say and refuse."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compass.cli.app import app
from compass.probe.store import Store
from compass.profile import write_profile
from compass.records import (
    Batch,
    Candidate,
    Knobs,
    Outcome,
    ProbeNote,
    ProbeSpec,
    RuntimeSettings,
    ScoreTerms,
    Status,
    WhatIf,
)

GIB = 1024**3


@pytest.fixture(autouse=True)
def _workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


def compass(*args: str):
    return CliRunner().invoke(app, args, catch_exceptions=False)


@pytest.fixture
def told(profile):
    """The profile of a run that recorded everything, on disk."""
    row = Candidate(layers=6, channels=128, capacity=96_000, verdict="chosen", batch_size=32, live_bytes=9e8,
                    footprint_bound_bytes=1.4e9, step_s=2.0, spread=0.05, score=1.1)  # fmt: skip
    slow = Candidate(layers=8, channels=128, capacity=120_000, verdict="time", batch_size=1, step_s=9.0)
    terms = ScoreTerms(worth=1.0, throughput_ratio=2.0, capacity_ratio=0.5, samples=0.66, parameters=0.24)
    more = row.model_copy(update={"batch_size": 48, "step_s": 2.5})
    what_ifs = (WhatIf(change="none", pick=row), WhatIf(change="memory", amount=GIB, pick=more),
                WhatIf(change="time", amount=600, pick=row))  # fmt: skip
    plan = profile.plans["prototyping"]
    measured = plan.measured.model_copy(update={"terms": terms})
    plan = plan.model_copy(update={"candidates": (row, slow), "measured": measured, "what_ifs": what_ifs})
    note = ProbeNote(layers=6, channels=128, key="k", phase="certify", stage="prototyping", status="ok", wall_s=3.0)
    profile = profile.model_copy(update={"plans": {**profile.plans, "prototyping": plan}, "probe_log": (note,)})
    write_profile(profile, Path("hardware_profile.json"))
    return profile


LACKS = (
    "missing: Not in this profile: production.\n"
    "missing: The other candidates are not recorded for validation: an older Compass wrote it.\n"
)


def test_a_report_is_one_file(told):
    result = compass("report")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "wrote hardware_report.html\n", LACKS)
    assert sorted(path.name for path in Path().iterdir()) == ["hardware_profile.json", "hardware_report.html"]
    page = Path("hardware_report.html").read_text()
    assert "<title>Compass on Some CPU</title>" in page
    assert "nothing found" in page


def test_markdown_on_stdout_is_all_there_is(told):
    result = compass("report", "--markdown", "-")
    assert result.stdout.startswith("## Compass on Some CPU\n")
    assert result.stderr == LACKS
    assert [path.name for path in Path().iterdir()] == ["hardware_profile.json"]


def test_everything_at_once(told):
    pytest.importorskip("matplotlib")
    write_profile(told, Path("p.json"))
    result = compass(
        "report", "p.json", "--out", "r.html", "--markdown", "r.md", "--figures", "f", "--format", "svg", "--json"
    )
    said = json.loads(result.stdout)
    assert said["written"][:2] == ["r.html", "r.md"]
    assert set(said["written"][2:]) == {f"f/{key}.svg" for key in (
        "prototyping-throughput", "prototyping-cycle", "prototyping-space", "search",
    )}  # fmt: skip
    assert all(Path(path).stat().st_size for path in said["written"])
    assert len(said["missing"]) == 2


def test_the_ledger_is_read_and_left_alone(told):
    spec = ProbeSpec(
        knobs=Knobs(layers=2, channels=32), batches=(Batch(members=(("1ia1", 1),)),), min_steps=1, max_steps=1,
        timeout_s=1.0, runtime=RuntimeSettings(threads=1),
    )  # fmt: skip
    store = Store(Path("cache/probes.jsonl"))
    store.add(told.fingerprint.key, spec, Outcome(status=Status.OK))
    store.close()
    whole = Path("cache/probes.jsonl").read_bytes()
    Path("cache/probes.jsonl").write_bytes(whole + b"0123 nonsense\n" + whole)
    result = compass("report", "--cache", "cache")
    assert "missing: The ledger is damaged. Lines left out: 1.\n" in result.stderr
    assert Path("cache/probes.jsonl").read_bytes() == whole + b"0123 nonsense\n" + whole
    assert "1 probes on this machine" in Path("hardware_report.html").read_text()


def test_a_ledger_that_was_named_and_is_not_there_is_missed(told):
    assert "missing: The ledger none.jsonl cannot be read: No such file or directory.\n" in (
        compass("report", "--ledger", "none.jsonl").stderr
    )


def test_without_probes_in_the_profile_the_ledger_is_missed(profile):
    write_profile(profile, Path("p.json"))
    said = compass("report", "p.json").stderr
    assert "cannot be read: No such file or directory." in said
    assert "The profile does not hold the probes behind it" in said


def test_a_profile_that_is_cut_off_still_gives_a_report(told):
    text = Path("hardware_profile.json").read_text()
    Path("hardware_profile.json").write_text(text[: len(text) // 3])
    result = compass("report")
    assert result.exit_code == 0
    assert "missing: The profile is cut off or damaged: what stands before the damage is shown." in result.stderr
    assert Path("hardware_report.html").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.json"],
         "profile none.json: got No such file or directory; expected a hardware_profile.json. Run `compass optimize` first."),
        (["--out", "nowhere/r.html"],
         "output nowhere/r.html: got No such file or directory; expected a file in a writable folder. "
         "Choose another --out."),
        (["--markdown", "nowhere/r.md"],
         "output nowhere/r.md: got No such file or directory; expected a file in a writable folder. "
         "Choose another --markdown."),
        (["--markdown", "-", "--json"],
         "--markdown: got - and --json as well; expected one of the two on stdout. "
         "Give --markdown a file, or leave out --json."),
        (["--format", "gif"], "--format: got 'gif'; expected one or more of svg, png, pdf. Write them with commas."),
    ],
)  # fmt: skip
def test_what_report_refuses(told, args, message):
    result = compass("report", *args)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {message}\n")
    assert [path.name for path in Path().iterdir()] == ["hardware_profile.json"]


# ------------------------------------------------------------------------------------------------------------- explain


def test_explain(told):
    result = compass("explain", "prototyping")
    assert (result.exit_code, result.stderr) == (0, "")
    assert max(map(len, result.stdout.splitlines())) <= 80
    said = " ".join(result.stdout.split())
    assert said.startswith("prototyping: 6 × 128 fp32, batch 32: 16 graphs/s, a cycle of 15.0 min why The best of 61")
    for part in (
        "memory at most 1.37 of 4.00 GiB, 1.32 GiB measured",
        "time a cycle of 15.0 min; 40.0 min allowed, target 20.0 min",
        "score samples 0.660: 2 times the production model's graphs/s, to the power −0.26, weighted 0.8",
        "score 0.900: the sum of both",
        "+ 1.00 GiB more memory the same model, batch 32 → 48: 20% more in graphs/s",
        "+ 10.0 min more per cycle nothing: the same model and batch",
        "The effects of more memory, time or data (+) are predictions",
    ):
        assert part in said, part


def test_explain_as_json(told):
    said = json.loads(compass("explain", "prototyping", "--json").stdout)
    assert [limit["name"] for limit in said["limits"]] == ["memory", "time", "data", "batch", "space"]
    assert said["purchases"][0]["changes"]


def test_explain_a_stage_that_found_nothing(told):
    said = compass("explain", "validation").stdout
    assert said.startswith("validation: nothing found\n")
    assert "Limited by time." in said
    assert "Nearest miss: 4 × 112 fp32" in said


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("production", "stage production: got nothing in this profile; expected a plan. "
                       "Run `compass optimize --stage production`."),
        ("produce", "--stage: got 'produce'; expected one of smoke_test, prototyping, validation, production. "
                    "Did you mean production?"),
        ("smoke_test,validation", "--stage: got smoke_test, validation; expected one stage. Name smoke_test or validation."),
    ],
)  # fmt: skip
def test_what_explain_refuses(told, stage, message):
    result = compass("explain", stage)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {message}\n")


# ------------------------------------------------------------------------------------------------------------- compare


def test_compare(told):
    hardware = told.hardware.model_copy(update={"name": "Another CPU"})
    plan = told.plans["prototyping"]
    faster = plan.measured.model_copy(update={"throughput": 24.0})
    plan = plan.model_copy(update={"measured": faster, "limited_by": "memory"})
    write_profile(
        told.model_copy(update={"hardware": hardware, "plans": {**told.plans, "prototyping": plan}}), Path("b.json")
    )
    result = compass("compare", "hardware_profile.json", "b.json")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    lines = result.stdout.splitlines()
    assert lines[:3] == ["A: hardware_profile.json", "B: b.json", "device: Some CPU (cpu) → Another CPU (cpu)"]
    assert "Prototyping: 16 → 24 graphs/s, 50% more; a cycle takes 15.0 min → 15.0 min" in lines
    assert "Prototyping: limited by score → memory" in lines
    said = json.loads(compass("compare", "hardware_profile.json", "b.json", "--json").stdout)
    assert said["surroundings"] == ["device: Some CPU (cpu) → Another CPU (cpu)"]


def test_compare_what_is_alike(told):
    assert "same machine, versions, data and settings" in compass("compare", *["hardware_profile.json"] * 2).stdout
