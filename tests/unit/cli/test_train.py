"""`compass train` and `compass predict` up to where a run's process takes over."""

import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from compass.cli.app import app
from compass.config_files import load_config
from compass.data.graphs.bench import EMBEDDED_LIGAND, EMBEDDED_PROTEIN
from compass.profile import write_profile
from compass.records import Evaluation, Metrics, RunVerdict
from compass.training import prediction, prepare
from compass.training.checkpoints import Progressed
from compass.training.results import Results
from compass.training.run_spec import read_run_spec


@pytest.fixture
def start(profile, tmp_path, monkeypatch):
    """`compass train` with these arguments: its result, and what it would have become."""
    became = []
    monkeypatch.setattr(os, "execve", lambda _, command, environment: became.append((command, environment)))
    monkeypatch.setattr(prepare, "check_fresh", lambda request: request.profile.fingerprint)
    write_profile(profile, tmp_path / "p.json")

    def run(*arguments):
        given = ["train", "--profile", str(tmp_path / "p.json"), "--out", str(tmp_path / "run"), *arguments]
        return CliRunner().invoke(app, given), became

    return run


def test_the_run_is_a_process_under_the_plans_settings(start, profile, tmp_path):
    result, [(command, environment)] = start("--stage", "prototyping", "--cycles", "2", "--set", "training.epochs=3")
    assert result.exit_code == 0, result.output
    assert command == [sys.executable, "-m", "compass", "train-run", str(tmp_path / "run")]
    assert environment["OMP_NUM_THREADS"] == str(profile.plans["prototyping"].runtime.threads)
    spec = read_run_spec(tmp_path / "run")
    assert spec.plan == profile.plans["prototyping"]
    assert (spec.amount.cycles, spec.config.training.epochs, spec.batching) == (2, 3, "batch_size")
    assert spec.budget_bytes == spec.plan.certificate.ceiling_bytes


def test_a_time_is_read(start, tmp_path):
    start("--stage", "prototyping", "--max-time", "1.5h")
    assert read_run_spec(tmp_path / "run").amount.max_time_s == 5400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "prototyping,production"], "--stage: got prototyping, production; expected one stage."),
        (["--stage", "prototype"], "--stage: got 'prototype'; expected one of"),
        (["--stage", "validation"], "stage validation: got no plan: "),
        (
            ["--stage", "prototyping", "--batching", "all"],
            "--batching: got 'all'; expected batch_size or batch_budget.",
        ),
        (
            ["--stage", "prototyping", "--max-time", "soon"],
            "--max-time: got 'soon'; expected a time above zero such as 90s",
        ),
        (["--stage", "prototyping", "--set", "training.epoch=3"], "training.epoch"),
        (["--stage", "prototyping", "--resume"], "got no run to resume"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_starts(start, arguments, message):
    result, became = start(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not became


def results_of(*, finished=True):
    """What a run of 2,000 complexes of 16,000 found."""
    figures = {"model": (1.32, 0.71), "ligand baseline": (1.5, 0.6), "mean baseline": (1.9, None)}
    found = tuple(
        Evaluation(
            part=part, of=of, sample_of=16_000 if part == "train" else None,
            metrics=Metrics(n=2_000, rmse=rmse, mae=1.0, pearson=pearson, spearman=pearson),
        )
        for of, (rmse, pearson) in figures.items()
        for part in ("train", "val", "test")
    )  # fmt: skip
    verdict = RunVerdict(
        standing="better_than_ligand", part="test", n_updates=900, says="better than …; 900 updates were made"
    )
    return Results(
        finished=finished, at=Progressed(), cycles=(), evaluations=found if finished else (), verdict=verdict, split=0, deferred=0,
        out_of_memory=0, skipped=(), checkpoint="runs/x/b.ckpt" if finished else "",
    )  # fmt: skip


def test_a_run_ends_with_a_table_and_a_verdict(capsys, monkeypatch):
    from compass.cli.train import _report

    monkeypatch.setenv("COLUMNS", "80")
    _report(results_of(), Path("runs/x"))
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "",
        "RMSE in pK, with Pearson's R",
        "            complexes                  model         ligand alone  mean",
        "training    sample of 2,000 of 16,000  1.32, R 0.71  1.50, R 0.60  1.90",
        "validation  2,000                      1.32, R 0.71  1.50, R 0.60  1.90",
        "test        2,000                      1.32, R 0.71  1.50, R 0.60  1.90",
        "",
        "Better than …; 900 updates were made.",
        "",
        "wrote runs/x",
        "",
        "next:",
        "  compass report runs/x                         # see the curves, and predicted against true",
        "  compass predict runs/x/b.ckpt YOUR_COMPLEXES  # use the best model",
    ]


def test_a_run_of_ones_own_workload_is_not_sent_to_predict(capsys):
    """`compass predict` reads complexes."""
    from compass.cli.train import _report

    _report(results_of(), Path("runs/x"), "images")
    said = capsys.readouterr().out
    assert "            images " in said
    assert "predict runs" not in said


def test_a_stopped_run_has_no_table(capsys):
    from compass.cli.train import _report

    _report(results_of(finished=False), Path("runs/x"))
    assert capsys.readouterr().out == (
        "\nBetter than …; 900 updates were made.\n\nstopped, with a checkpoint: runs/x\n\nnext:\n"
        "  compass train --out runs/x --resume  # go on\n"
        "  compass report runs/x                # see the curves, and predicted against true\n"
    )


def test_the_verdict_is_in_the_json():
    again = json.loads(results_of().model_dump_json())
    assert again["verdict"] == {
        "standing": "better_than_ligand", "part": "test", "n_updates": 900, "memorised": False,
        "says": "better than …; 900 updates were made",
    }  # fmt: skip
    assert [one["part"] for one in again["evaluations"][:3]] == ["train", "val", "test"]


def test_predict_refuses_what_is_no_checkpoint(tmp_path):
    result = CliRunner().invoke(app, ["predict", str(tmp_path / "x.ckpt"), str(tmp_path)])
    assert result.exit_code == 2
    assert "got no such file; expected a checkpoint of `compass train`" in " ".join(result.output.split())


@pytest.fixture
def predict(tmp_path, monkeypatch):
    """`compass predict` with these arguments, by a model whose training set had an index and refused its largest: the dataset's rules."""
    trained = load_config(None, ["dataset.index=INDEX_of_the_training_set", "dataset.oversize=refuse"])
    asked = []

    def answer(checkpoint, config, device, **_):
        asked.append(config.dataset)
        print("output of the model")  # noqa: T201 - which belong on the other stream
        return prediction.Predictions(checkpoint=str(checkpoint), rows=(), evaluation=None)

    monkeypatch.setattr(prediction, "run_spec_of", lambda _: SimpleNamespace(config=trained))
    monkeypatch.setattr(prediction, "predict_complexes", answer)

    def run(*arguments):
        result = CliRunner().invoke(app, ["predict", "x.ckpt", *map(str, arguments), "--cache", str(tmp_path)])
        assert result.exit_code == 0, result.output
        return SimpleNamespace(rules=asked[-1], stdout=result.stdout)

    return run


@pytest.mark.slow
def test_predict_leaves_the_training_sets_rules_behind(predict, tmp_path):
    manifest = tmp_path / "new.csv"
    manifest.write_text(f"id,protein,ligand,label\na,{EMBEDDED_PROTEIN},{EMBEDDED_LIGAND},\n")
    for given in ((), ("--csv", "-")):
        told = predict(manifest, *given)
        assert (told.rules.path, told.rules.index, told.rules.oversize) == (str(manifest), "", "isolate")
        assert told.stdout == "id,predicted_pk,relation,pk,reason\n"


def test_predict_names_what_it_does_not_answer(capsys):
    from compass.cli.predict import _report_unanswered, _write
    from compass.data.scan.rows import Row

    rejected = Row(id="b", status="rejected", reason="no_3d", detail="b.sdf: got a drawing")
    found = prediction.Predictions(
        checkpoint="x",
        rows=(prediction.Prediction(id="a", predicted_pk=6.0),),
        unanswered=(prediction.unanswered(rejected), prediction.unanswered(Row(id="c", status="ok"))),
        evaluation=None,
    )
    table = io.StringIO()
    _write(table, found)
    assert table.getvalue() == (
        "id,predicted_pk,relation,pk,reason\na,6.000,,,\nb,,,,no_3d: b.sdf: got a drawing\n"
        'c,,,,"usable, but not among the samples that the workload loads"\n'
    )
    _report_unanswered(found)
    assert capsys.readouterr().err == ("no prediction for 2 of 3 complexes: they end the table, each with its reason\n")


def test_predict_writes_one_thing(tmp_path):
    result = CliRunner().invoke(app, ["predict", "x.ckpt", str(tmp_path), "--json", "--csv", "a.csv"])
    assert (result.exit_code, result.stderr) == (
        2,
        "error: --csv: got --json as well; expected one of the two. Leave one out.\n",
    )


@pytest.mark.slow
def test_predict_takes_the_index_it_is_given(predict, tmp_path):
    (tmp_path / "1abc_protein.pdb.gz").write_bytes(EMBEDDED_PROTEIN.read_bytes())
    (tmp_path / "1abc_ligand.sdf").write_bytes(EMBEDDED_LIGAND.read_bytes())
    (tmp_path / "labels").write_text("1abc  2.00  2006  6.40  Ki=400nM\n")
    assert predict(tmp_path, "--index", tmp_path / "labels").rules.index == str(tmp_path / "labels")
