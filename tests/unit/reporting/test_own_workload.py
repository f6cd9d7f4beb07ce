"""The texts about a workload of the user's own: they name its samples, and neither complexes nor graphs."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compass.cli.app import app
from compass.profile import write_profile
from compass.records import Knobs, RuntimeChoice, Variant
from compass.reporting.answers import epoch_words, headline, model_words, next_commands, training_words
from compass.reporting.compare import compare_profiles
from compass.reporting.evidence import of_profile
from compass.reporting.explain import explain_plan, plan_limits
from compass.reporting.markdown import markdown
from compass.reporting.page import html_page, run_page
from compass.reporting.run_evidence import read_run
from compass.reporting.run_markdown import run_markdown
from compass.reporting.run_view import run_view_of
from compass.reporting.view import view_of
from compass.reporting.words import batch_words, limit_words, plan_limit_words

COMMANDS = (
    ["show"],
    ["show", "production"],
    ["show", "prototyping"],
    ["explain"],
    ["explain", "prototyping"],
    ["report", "--markdown", "-"],
)


def told_of(page):
    """All that a page shows: its text, and the tables and plots that its script draws."""
    data = re.search(r'id="evidence">(.*?)</script>', page, re.DOTALL)
    shown = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return f"{shown}{data[1] if data else ''}"


def assert_own_words(text):
    found = [
        text[max(0, one.start() - 60) : one.end() + 20] for one in re.finditer("graph|complex", text, re.IGNORECASE)
    ]
    assert not found
    assert "images" in text


def printed(*args):
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(params=["images", "few_images"])
def own(request):
    return request.getfixturevalue(request.param)


def test_a_page_has_the_workloads_words(own):
    assert_own_words(told_of(html_page(view_of(of_profile(own, "p.json")))))


def test_markdown_has_the_workloads_words(own):
    assert_own_words(markdown(view_of(of_profile(own, "p.json"))))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_terminal_has_the_workloads_words(images, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    write_profile(images, Path("hardware_profile.json"))
    assert_own_words(printed(*command))


def test_a_page_of_a_built_in_family_keeps_its_words(whole):
    text = told_of(html_page(view_of(of_profile(whole, "p.json"))))
    assert "19,000 complexes" in text
    assert "graphs/s" in text
    assert "copies of the sample complex 1ia1" in text


def test_a_runs_page_and_markdown_have_the_workloads_words(profile, tmp_path, write_run):
    folder = tmp_path / "run"
    write_run(folder, profile.plans["prototyping"], profile.config, noun="images")
    view = run_view_of(read_run(folder, folder / "run.json"))
    assert view.headline == "No verdict: no images with labels were evaluated; 1,200 updates were made."
    assert view.next == ()  # `compass predict` reads complexes
    assert ("effective batch", "64 images per weight update") in view.facts
    assert ("batches", "a fixed number of images") in view.facts
    assert "images per second" in [row[0] for row in view.promises.rows]
    assert "images" in view.tables["cycles"].headers
    assert_own_words(told_of(run_page(view)))
    assert_own_words(run_markdown(view))


def test_a_run_of_before_nouns_is_of_complexes(run_folder):
    path = run_folder / "run.json"
    text = path.read_text()
    assert '"noun"' in text
    path.write_text(re.sub(r'\s*"noun": "",', "", text))
    run = read_run(run_folder, path)
    assert run.noun == ""
    assert not [one for one in run.missing if "noun" in one]


# ------------------------------------------------------------------------------------------------------- the sentences


@pytest.fixture
def plan(profile):
    return profile.plans["prototyping"].with_times(19_000, 100)


def test_a_plan_in_sentences(plan, profile):
    assert model_words(plan, "images").endswith(", in batches of 32 images, 2 batches per weight update")
    assert epoch_words(plan, 19_000, "images") == "an epoch of 19,000 images takes 20 min"
    assert training_words(plan, 19_000, profile.config, "images") == (
        "at 16 images/s an epoch of 19,000 images takes 20 min, 100 epochs 33.0 h"
    )
    assert "an epoch of 19,000 images takes 20 min; " in headline(plan, 19_000, "images")
    single = plan.model_copy(update={"choice": plan.choice.model_copy(update={"batch_size": 1}), "accumulate": 1})
    assert [batch_words(single, noun) for noun in ("", "images")] == ["1 graph", "1 image"]


def test_a_limit_in_a_sentence():
    assert limit_words("time", "") == "Limited by time: with one more graph the cycle would be longer than its target."
    assert limit_words("time", "images").startswith("Limited by time: with one more image the cycle")
    assert limit_words("nothing", "images").endswith("the smallest model and one image.")
    assert limit_words("{luck}", "images") == "Limited by {luck}."  # a damaged profile may name anything


def test_a_workload_of_ones_own_has_its_samples(profile):
    own = profile.model_copy(update={"noun": "images", "workload": "my_model.py:Model"})
    commands = [text for text, _ in next_commands(own, Path("hardware_profile.json"))]
    assert commands[0] == "compass train --stage prototyping"
    assert view_of(of_profile(own, "p.json")).data == (("samples", "the workload's own images"),)


@pytest.mark.parametrize(("noun", "data", "batch"), [("", "complexes", "graphs"), ("images", "images", "images")])
def test_limits_and_reasons(whole, noun, data, batch):
    evidence = of_profile(whole.model_copy(update={"noun": noun}), "p.json")
    says = {one.name: one.says for one in plan_limits(evidence, whole.plans["production"])}
    assert says["data"].endswith(f"parameters that 19,000 {data} allow")
    assert says["batch"].endswith(f"{batch} per batch")
    told = explain_plan(evidence, "prototyping")
    assert f" {batch}/s, a cycle of " in told.answer
    assert f"times the production model's {batch}/s" in told.score[0]
    assert f"19,000 more {data}" in [one.more for one in told.purchases]


def test_profiles_of_two_kinds_are_compared_in_samples(whole, images):
    alike = compare_profiles(of_profile(images, "a"), of_profile(images, "b"))
    assert "images/s" in [row[0] for row in alike.stages[-1].table.rows]
    mixed = compare_profiles(of_profile(whole, "a"), of_profile(images.model_copy(update={"dataset_size": 5}), "b"))
    assert "samples/s" in [row[0] for row in mixed.stages[-1].table.rows]
    assert any(line.startswith("samples: 19,000 → 5") for line in mixed.surroundings)


# --------------------------------------------------------------------------------------------------------- fixed models


def fixed(profile):
    plan = profile.plans["prototyping"]
    choice = plan.choice.model_copy(update={"knobs": Knobs.fixed(Variant())})
    plan = plan.model_copy(update={"choice": choice, "runners_up": (), "fastest": None})
    return profile.model_copy(
        update={"noun": "images", "plans": {"prototyping": plan}, "reference": None, "failures": {}}
    )


def test_the_column_of_a_fixed_model_has_no_layers(profile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = fixed(profile)
    loading = RuntimeChoice(setting="loader_workers", stage="prototyping", chosen="0", why="as configured")
    write_profile(own.model_copy(update={"runtime": (loading,)}), Path("hardware_profile.json"))
    text = printed("show")
    assert text.splitlines()[3].split() == ["stage", "model", "parameters", "batch", "cycle", "epoch", "memory", "by"]
    assert "prototyping as it is fp32" in text
    assert "stood in for the dataset" not in text
    assert "<th>model</th>" in own._repr_html_()
    assert "<th>layers × channels</th>" in profile._repr_html_()


def test_what_compass_cannot_train_is_exported(profile):
    own = fixed(profile).model_copy(update={"trainable": False})
    for of in (own, of_profile(own, "p.json")):
        assert next_commands(of, Path("my plan.json"))[0] == (
            "compass export --stage prototyping --profile 'my plan.json'",
            "the plan as settings for your own trainer",
        )


def test_the_share_that_limits_the_batch_of_a_fixed_model_is_named(profile):
    of_model = profile.plans["prototyping"].model_copy(update={"limited_by": "data"})
    plan = fixed(profile).plans["prototyping"].model_copy(update={"limited_by": "data"})
    assert plan_limit_words(plan, "images", profile.config) == (
        "Limited by data: a batch is at most 5% of the training set, the setting batch.training_share."
    )
    assert plan_limit_words(plan, "images", None) == limit_words("data", "images")  # a damaged profile
    assert plan_limit_words(of_model, "", profile.config) == limit_words("data", "")


def test_a_fixed_model_has_no_map_of_the_space(images):
    plan = images.plans["production"]
    rows = tuple(row.model_copy(update={"layers": 1, "channels": 1}) for row in plan.candidates[:2])
    own = images.model_copy(update={"plans": {"production": plan.model_copy(update={"candidates": rows})}})
    keys = [figure.key for figure in view_of(of_profile(own, "p.json")).stages[0].figures]
    assert keys == ["production-throughput", "production-cycle"]
