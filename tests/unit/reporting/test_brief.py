import json

from typer.testing import CliRunner

from compass.cli.app import app
from compass.profile import write_profile
from compass.reporting.brief import brief_answers


def test_the_answers_of_a_profile_are_few_and_have_units(profile):
    plans = {stage: plan.with_times(19_000, 100) for stage, plan in profile.plans.items()}
    told = brief_answers(profile.model_copy(update={"plans": plans}))
    assert told["stages"]["prototyping"] == {
        "layers": 6, "channels": 128, "parameters": 96_000, "batching": "batch_size", "batch_size": 32, "accumulate": 2, "allocator": "fast", "step_s": 2.0,
        "cycle_s": 900.0, "epoch_s": 1188.0, "training_s": 118_800.0, "graphs_per_s": 16.0, "footprint_bytes": 1_415_577_600,
        "ceiling_bytes": 4 * 1024**3, "proven_steps": 12, "enforced": True, "indicative": False, "discouraged": "", "limited_by": "score",
    }  # fmt: skip
    assert told["stages"]["validation"] == {
        "limited_by": "time", "reason": "No model of the large space is fast enough.",
    }  # fmt: skip
    assert (told["workload"], told["dataset"], told["dataset_size"]) == ("visnet", None, 19_000)
    assert len(json.dumps(told)) < 3000
    assert list(brief_answers(profile, "validation")["stages"]) == ["validation"]


def test_on_the_command_line(profile, tmp_path):
    path = tmp_path / "p.json"
    write_profile(profile, path)

    def show(*flags):
        return CliRunner().invoke(app, ["show", str(path), *flags])

    assert json.loads(show("--json", "--brief").stdout) == json.loads(json.dumps(brief_answers(profile)))
    assert list(json.loads(show("--json", "--brief", "--stage", "prototyping").stdout)["stages"]) == ["prototyping"]
    refused = show("--brief")
    assert (refused.exit_code, refused.stderr) == (
        2,
        "error: --brief: got no --json; expected --json --brief. Add --json, or leave out --brief.\n",
    )


def test_the_schema_is_printed():
    result = CliRunner().invoke(app, ["schema"])
    assert json.loads(result.stdout)["$id"].startswith("urn:compass:hardware_profile:")
