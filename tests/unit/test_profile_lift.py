"""A profile that Compass 0.1.0 wrote, for a simulated machine, is read by this version."""

import json
from pathlib import Path

import pytest

from compass.optimizer_config import MemoryRules, ProbeRules, present_names
from compass.profile import SCHEMA_VERSION, read_profile, write_profile
from compass.profile_lift import lifted
from compass.records import BytesLaw, Candidate, Choice, Configuration
from compass.reporting.evidence import read_evidence

RECORDED = Path(__file__).parent / "recorded/profile_schema_1.json"
BOUND = {"footprint_bytes": "footprint_bound_bytes"}


@pytest.fixture
def old():
    return json.loads(RECORDED.read_text())


@pytest.fixture
def new():
    return read_profile(RECORDED)


def only(entry, names):
    return {name: entry[name] for name in names}


@pytest.mark.parametrize("stage", ["smoke_test", "validation", "production"])
def test_a_plan_keeps_every_figure(old, new, stage):
    was, plan = old["plans"][stage], new.plans[stage].model_dump(mode="json")
    choice, certificate = was["choice"], was["certificate"]
    expected = only(choice, ["knobs", "capacity", "batch_size", "load"]) | {"allocator": was["runtime"]["allocator"]}
    assert new.plans[stage].choice == Configuration.model_validate(expected)
    assert plan["predicted"] == {
        **only(choice, ["live_bytes", "step_s", "cycle_s", "throughput", "score"]),
        "footprint_bound_bytes": choice["footprint_bytes"],
    }
    measured = plan["measured"]
    assert {name: value for name, value in measured["step"].items() if value is not None} == {
        name: value for name, value in was["step"].items() if value is not None
    }
    assert only(measured, ["cycle_s", "throughput", "terms"]) == only(was, ["cycle_s", "throughput", "terms"])
    names = ["live_bytes", "footprint_bytes", "update_s", "collate_s"]
    assert only(measured, names) == only(certificate, names)
    assert plan["certificate"]["footprint_bound_bytes"] == certificate["bound_bytes"]
    assert (plan["limited_by"], plan["why"]) == (was["binds"], was["why"])
    assert new.plans[stage].bytes_law == BytesLaw.model_validate(was["bytes_law"])
    under, now = {"allocator": was["runtime"]["allocator"]}, new.plans[stage]
    for name in ("runners_up", "front"):
        assert getattr(now, name) == tuple(Choice.model_validate(renamed(one) | under) for one in was[name])
    assert now.candidates == tuple(Candidate.model_validate(renamed(one)) for one in was["candidates"])
    fastest = was["literal"]
    assert now.fastest == (fastest and Choice.model_validate(renamed(fastest) | under))


def renamed(entry):
    return {BOUND.get(name, name): value for name, value in entry.items()}


def test_everything_beside_the_plans_is_kept(old, new):
    assert new.schema_version == SCHEMA_VERSION
    assert new.compass_version == "0.1.0"
    assert new.reference.footprint_bound_bytes == old["reference"]["footprint_bytes"]
    assert new.failures["prototyping"].limited_by == old["failures"]["prototyping"]["binds"] == "time"
    assert new.failures["prototyping"].nearest.cycle_s == old["failures"]["prototyping"]["nearest"]["cycle_s"]
    assert new.probe_costs.certify_steps == old["ledger"]["confirm_steps"] > 0
    assert [note.key for note in new.probe_log] == [note["key"] for note in old["trail"]]
    phases = [note["phase"].replace("confirm", "certify") for note in old["trail"]]
    assert [note.phase for note in new.probe_log] == phases
    assert new.config.probe.certify_rounds == old["config"]["probe"]["confirm_rounds"] == 2


def test_a_lifted_profile_is_written_in_the_present_schema(new, tmp_path):
    write_profile(new, tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text())["schema_version"] == SCHEMA_VERSION
    assert read_profile(tmp_path / "p.json") == new


def test_a_lifted_profile_makes_no_noise(caplog):
    read_profile(RECORDED)
    assert not caplog.records


def test_a_report_reads_it_too(new):
    evidence = read_evidence(RECORDED)
    assert evidence.missing == ()
    assert evidence.plans == new.plans
    assert evidence.probe_log == new.probe_log


def test_a_damaged_part_costs_a_report_only_itself(old, tmp_path):
    old["plans"]["production"]["certificate"] = "torn"
    old["trail"][0] = 3
    path = tmp_path / "p.json"
    path.write_text(json.dumps(old))
    evidence = read_evidence(path)
    assert set(evidence.plans) == {"smoke_test", "validation"}
    assert len(evidence.probe_log) == len(old["trail"]) - 1


def test_an_older_certificate_without_a_bound_takes_the_choice_s(old):
    old["plans"]["production"]["certificate"]["bound_bytes"] = 0
    bound_bytes = lifted(old)["plans"]["production"]["certificate"]["footprint_bound_bytes"]
    assert bound_bytes == old["plans"]["production"]["choice"]["footprint_bytes"]


@pytest.mark.parametrize("data", [{}, {"schema_version": SCHEMA_VERSION, "plans": {}}, {"schema_version": 99}])
def test_other_schemas_are_left_alone(data):
    assert lifted(data) is data


def test_lifting_changes_nothing_in_place(old):
    before = json.dumps(old)
    lifted(old)
    assert json.dumps(old) == before


def test_former_names_of_settings():
    renamed: list[tuple[str, str]] = []
    given = {"probe": {"confirm_rounds": 5, "poor_fit": 0.1}, "seed": 3, "odd": {"confirm_rounds": 1}}
    now = present_names(given, lambda *names: renamed.append(names))
    assert now == {"probe": {"certify_rounds": 5, "poor_fit": 0.1}, "seed": 3, "odd": {"confirm_rounds": 1}}
    assert renamed == [("confirm_rounds", "certify_rounds")]


def test_every_former_name_leads_to_a_setting():
    for kind in (MemoryRules, ProbeRules):
        assert kind.old_names
        assert set(kind.old_names.values()) <= kind.model_fields.keys()
        assert not kind.old_names.keys() & kind.model_fields.keys()
