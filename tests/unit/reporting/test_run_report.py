"""The report on a training run: its page, its Markdown and its plots, from whole and from damaged folders."""

import html
import json
import math
import re
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from compass.cli.app import app
from compass.reporting.page import run_page
from compass.reporting.run_evidence import read_run
from compass.reporting.run_markdown import run_markdown
from compass.reporting.run_promises import PROMISES
from compass.reporting.run_view import run_view_of
from compass.reporting.static import write_figures

HEADLINE = "Better than the ligand alone by 26 % on the test set (RMSE 1.20, the ligand 1.61); 1,200 updates were made."
IN_PAGE = HEADLINE.replace(" %", "\u00a0%")


def view_in(folder):
    return run_view_of(read_run(folder, folder / "run.json"))


def figure(view, key):
    return next(one for one in view.figures if one.key == key)


def text_of(page):
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)


def test_the_headline_is_the_verdict(run_view):
    assert (run_view.headline, run_view.tone) == (HEADLINE, "good")
    assert run_view.subtitle == "Prototyping · 6 × 128 fp32, batch 32 · visnet"
    assert run_view.missing == ()
    assert [card.name for card in run_view.cards] == ["Error on the test set", "Training time", "Memory"]


def test_every_plot_is_well_formed(run_view):
    assert [one.key for one in run_view.figures] == [
        "parity-test", "parity-val", "parity-train", "learning-curves", "cycle-times", "cycle-memory",
    ]  # fmt: skip
    for one in run_view.figures:
        table = run_view.tables[one.table]
        assert all(len(row) == len(table.headers) for row in table.rows)
        assert one.says.endswith(".")
        for series in one.series:
            assert len(series.x) == len(series.y) == len(series.rows) > 0
            assert all(map(math.isfinite, (*series.x, *series.y)))
            assert set(series.rows) <= set(range(len(table.rows)))


def test_predicted_against_true(run_folder, run_view):
    one = figure(run_view, "parity-test")
    lines = [line.split(",") for line in (run_folder / "predictions.csv").read_text().splitlines()[1:]]
    marks = {
        (series.role, row): (x, y)
        for series in one.series
        for row, x, y in zip(series.rows, series.x, series.y, strict=True)
    }
    for row, (_, part, pk, relation, predicted, ligand) in enumerate(lines):
        if part != "test":
            assert not any((role, row) in marks for role in ("predicted", "ligand", "bounded"))
        elif relation == ">":
            assert marks["bounded", row] == (float(pk), float(predicted))
        else:
            assert marks["predicted", row] == (float(pk), float(predicted))
            assert marks["ligand", row] == (float(pk), float(ligand))
    assert one.is_square
    assert run_view.tables["predictions"].rows[0][:2] == ("train0000", "training")


def test_of_many_complexes_some_are_drawn_and_all_are_in_the_table(profile, tmp_path, write_run):
    write_run(tmp_path / "r", profile.plans["prototyping"], profile.config, sizes=(("test", 2_500),))
    view = view_in(tmp_path / "r")
    [one] = view.parity
    assert one.says.startswith("2,500 complexes, 834 of them drawn. Model: RMSE 1.")
    assert sum(len(series.x) for series in one.series if series.role in {"predicted", "bounded"}) == 834
    assert len(view.tables["predictions"].rows) == 2_500


def test_the_learning_curves(run_view):
    one = figure(run_view, "learning-curves")
    train, validation, kept = one.series
    assert (train.x[0], train.x[-1], len(validation.x)) == (1.0, 30.0, 30)
    assert train.y[0] == pytest.approx(math.sqrt(0.5 + 2.8 * math.exp(-1 / 8)))
    assert kept.y == (min(validation.y),)
    assert f"is that of epoch {kept.x[0]:.0f}, whose model is kept." in one.says
    assert [rule.label for rule in one.rules] == ["validation, ligand alone", "validation, mean"]


def test_promised_against_measured(run_view):
    assert run_view.promises.headers == PROMISES
    rows = {row[0]: row[1:] for row in run_view.promises.rows}
    assert rows["time of a batch"][:2] == ("2 s", "2 s")
    assert rows["cycle of 450 batches"][:2] == ("15.0 min", "15.0 min")
    assert rows["footprint"] == ("1.32 GiB", "at most 1.37 GiB", "1.31 GiB", "-4.0%")
    times, memory = figure(run_view, "cycle-times"), figure(run_view, "cycle-memory")
    assert times.rules[0].value == 2.0
    assert times.series[0].y[2] == pytest.approx(2.6)
    assert "The largest difference is +30.0%, in cycle 3." in times.says
    assert [rule.label for rule in memory.rules] == ["bound", "budget"]
    assert "It stayed under its bound: 1.31 GiB, bound 1.37 GiB." in memory.says


@pytest.mark.parametrize(("factor", "word"), [(1, "kept"), (3, "exceeded")])
def test_a_bound_that_was_not_kept_is_said(run_folder, factor, word):
    found = read_run(run_folder, run_folder / "run.json")
    cycles = tuple(one.model_copy(update={"peak_bytes": factor * one.peak_bytes}) for one in found.cycles)
    view = run_view_of(replace(found, cycles=cycles))
    says = {gauge.label: gauge.says for gauge in view.cards[2].gauges}
    assert says["bound"] == f"1.37 GiB, {word}"
    assert ("It exceeded its bound" in figure(view, "cycle-memory").says) == (word == "exceeded")


def test_the_page_is_one_file_that_asks_for_nothing(run_view):
    page = run_page(run_view)
    shown = text_of(page)
    assert f'<h1 class="verdict good">{IN_PAGE}</h1>' in shown
    assert "default-src 'none'" in shown
    assert not re.findall(r'(?:src|href)="(?!#|data:)', shown)
    for one in run_view.figures:
        assert f'id="{one.key}"' in page
        assert f'aria-label="{html.escape(one.title)}' in page
    for target in re.findall(r'(?:aria-controls|aria-labelledby|href)="#?([\w-]+)"', shown):
        assert f'id="{target}"' in page, target
    ids = re.findall(r'\bid="([^"]+)"', shown)
    assert len(ids) == len(set(ids))


def test_names_cannot_break_out_of_the_page(run_folder):
    bad = '</script><script>alert("x")</script><b>'
    text = (run_folder / "predictions.csv").read_text().replace("test0001,", f'"{bad.replace(chr(34), chr(34) * 2)}",')
    (run_folder / "predictions.csv").write_text(text)
    page = run_page(view_in(run_folder))
    assert "<script>alert" not in page
    assert "<b>" not in text_of(page)
    assert "alert" in page


def test_markdown(run_view):
    text = run_markdown(run_view)
    assert text.startswith(f"## {HEADLINE}\n\nPrototyping · 6 × 128 fp32, batch 32 · visnet.\n")
    assert "|test|200|1.2" in text
    assert "|time of a batch|2 s|2 s|2." in text
    assert "**Error by epoch.** 30 epochs." in text
    assert "\n\n\n" not in text


def test_figures_are_files(run_view, tmp_path):
    pytest.importorskip("matplotlib")
    some = [figure(run_view, key) for key in ("parity-test", "learning-curves", "cycle-times")]
    written = write_figures(some, tmp_path / "f", ("svg",))
    said = [path.read_text() for path in written]
    assert all(one.title in text for one, text in zip(some, said, strict=True))
    assert "exact" in said[0]


# ------------------------------------------------------------------------------------------------------------- gaps


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("results.json", "results.json: the run has not ended, or it was killed."),
        ("epochs.csv", "No epoch has ended: there is no epochs.csv."),
        ("cycles.csv", "No cycle has ended: there is no cycles.csv."),
        ("predictions.csv", "The predictions were not kept: there is no predictions.csv."),
    ],
)
def test_missing_files_are_named_and_the_rest_is_shown(run_folder, lost, says):
    (run_folder / lost).unlink()
    view = view_in(run_folder)
    assert view.missing == (says,)
    page = run_page(view)
    assert says in page
    assert len(view.figures) == {"results.json": 3, "epochs.csv": 5, "cycles.csv": 4, "predictions.csv": 3}[lost]


def test_a_run_that_has_not_ended(run_folder):
    (run_folder / "results.json").unlink()
    view = view_in(run_folder)
    assert (view.headline, view.tone) == ("Not finished: 30 epochs have ended.", "unknown")
    assert view.results.rows == ()


def test_a_run_that_was_stopped_or_is_older(run_folder):
    results = json.loads((run_folder / "results.json").read_text())
    for finished, headline in ((True, "Finished, without a verdict."), (False, "Stopped before its end.")):
        older = {name: value for name, value in results.items() if name != "verdict"} | {"finished": finished}
        (run_folder / "results.json").write_text(json.dumps(older))
        view = view_in(run_folder)
        assert (view.headline, view.missing) == (headline, ("The verdict: an older Compass trained this run.",))


def test_nothing_but_settings(run_folder):
    for name in ("results.json", "epochs.csv", "cycles.csv", "predictions.csv"):
        (run_folder / name).unlink()
    view = view_in(run_folder)
    assert (view.figures, view.cards) == ([], ())
    assert "Nothing was evaluated." in run_page(view)
    assert run_markdown(view).startswith("## Not finished: 0 epochs have ended.\n")


def test_damaged_rows_and_settings_are_left_out(run_folder):
    with (run_folder / "cycles.csv").open("a") as file:
        file.write("7,450,\n")
    with (run_folder / "predictions.csv").open("a") as file:
        file.write("x,test,nan,=,1.0,\n")
    spec = json.loads((run_folder / "run.json").read_text())
    spec["plan"]["stage"] = "nonsense"
    spec.pop("checksum")
    (run_folder / "run.json").write_text(json.dumps(spec))
    view = view_in(run_folder)
    assert view.missing == (
        "`plan` in run.json cannot be read.",
        "1 of 7 rows of cycles.csv cannot be read.",
        "1 of 751 rows of predictions.csv cannot be read.",
    )
    assert view.title == "Compass: training run"
    run_page(view)


@pytest.mark.parametrize("name", ["epochs.csv", "cycles.csv"])
def test_a_changed_digit_or_name_in_a_table_is_said(run_folder, name):
    path = run_folder / name
    whole = path.read_text()
    header, row, *others = whole.splitlines()
    digit = next(at for at in range(len(row) - 10, 0, -1) if row[at].isdigit())
    changed = f"{row[:digit]}{(int(row[digit]) + 1) % 10}{row[digit + 1 :]}"
    path.write_text("\n".join([header, changed, *others]))
    assert view_in(run_folder).missing == (f"1 of {1 + len(others)} rows of {name} cannot be read.",)
    path.write_text(whole.replace("e", "d", 1))
    assert view_in(run_folder).missing == (f"{1 + len(others)} of {1 + len(others)} rows of {name} cannot be read.",)


# -------------------------------------------------------------------------------------------------------- the command


def compass(*args):
    return CliRunner().invoke(app, list(map(str, args)), catch_exceptions=False)


def test_the_page_lies_in_the_folder_of_the_run(run_folder):
    result = compass("report", run_folder)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"wrote {run_folder}/report.html\n", "")
    assert IN_PAGE in (run_folder / "report.html").read_text()


def test_markdown_and_json(run_folder, tmp_path):
    result = compass("report", run_folder, "--markdown", "-")
    assert result.stdout.startswith(f"## {HEADLINE}\n")
    assert not (run_folder / "report.html").exists()
    (run_folder / "predictions.csv").unlink()
    result = compass("report", run_folder, "--out", tmp_path / "r.html", "--json")
    assert json.loads(result.stdout) == {
        "written": [str(tmp_path / "r.html")],
        "missing": ["The predictions were not kept: there is no predictions.csv."],
    }


def test_folders_and_options_that_are_refused(run_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for args, message in (
        ([tmp_path / "empty"],
         f"folder {tmp_path}/empty: got no run.json in it; expected a profile, or the folder of a run. "
         "Name a hardware_profile.json, or a folder that `compass train` wrote."),
        ([run_folder, "--ledger", "x"],
         "--ledger: got one for a training run; expected none. Leave it out, or name a profile."),
    ):  # fmt: skip
        result = compass("report", *args)
        assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {message}\n")
    (run_folder / "run.json").write_text("nonsense")
    assert compass("report", run_folder).stderr == (
        f"error: run folder {run_folder}: got run.json, which cannot be read; expected the settings of a run. "
        "Start the run again in another folder.\n"
    )


@pytest.mark.parametrize("damage", ["x" * 200_000, '"' + "x" * 200_000], ids=["a long cell", "an open quote"])
def test_a_table_with_a_cell_of_megabytes_is_missing(run_folder, damage):
    (run_folder / "cycles.csv").write_text(f"number\n{damage}\n")
    assert "cycles.csv cannot be read after row 0." in view_in(run_folder).missing


def test_a_table_of_nonsense_is_given_up(run_folder):
    (run_folder / "epochs.csv").write_text("a,b\n" + "1,2\n" * 5_000)
    assert "epochs.csv is damaged: more than 1,000 of its rows cannot be read." in view_in(run_folder).missing


def test_a_table_that_is_no_text_is_read_as_far_as_it_goes(run_folder):
    path = run_folder / "epochs.csv"
    path.write_bytes(path.read_bytes() + b"\xff,\xff\n")
    assert any(line.startswith("1 of ") and "epochs.csv" in line for line in view_in(run_folder).missing)


@pytest.mark.parametrize("amount", [{"epochs": [1]}, {"max_time_s": "x"}, 3, {"epochs": {}}])
def test_an_amount_that_is_none_is_missing(run_folder, amount):
    data = json.loads((run_folder / "run.json").read_text())
    (run_folder / "run.json").write_text(json.dumps(data | {"amount": amount}))
    assert "`amount` in run.json cannot be read." in view_in(run_folder).missing
