"""Broken and partial profiles and ledgers: what can be read is shown, and what is missing is said."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compass.errors import InputError
from compass.profile import SCHEMA_VERSION, NewerProfileError, Profile
from compass.records import STAGES, Batch, Knobs, Load, Outcome, ProbeSpec, RuntimeSettings, Status
from compass.reporting.evidence import Evidence, of_profile, read_evidence, with_probes
from compass.reporting.markdown import markdown
from compass.reporting.page import html_page
from compass.reporting.view import view_of


def shown(evidence):
    """The page and the Markdown of `evidence`, which say everything that is missing."""
    view = view_of(evidence)
    page, text = html_page(view), markdown(view)
    assert page.startswith("<!doctype html>")
    if evidence.missing:
        assert "Missing from the profile" in page
        assert "**Missing**" in text
    return page


def test_a_whole_profile_lacks_nothing(whole, written):
    evidence = read_evidence(written[0])
    assert evidence.missing == ()
    assert evidence == of_profile(whole, "p.json")
    assert evidence.stages == list(STAGES)


def test_evidence_has_every_field_of_a_profile():
    left_out = {"schema_version"}
    assert set(Profile.model_fields) - left_out <= set(Evidence.__dataclass_fields__)


def test_a_cut_at_any_byte_still_gives_a_report(written, tmp_path):
    text = written[0].read_bytes()
    path = tmp_path / "cut.json"
    first = text.index(b'"hardware"')

    @settings(max_examples=25)
    @given(st.integers(first, len(text) - 3) | st.integers(first, first + 5000))
    def check(n_bytes):
        path.write_bytes(text[:n_bytes])
        evidence = read_evidence(path)
        assert "The profile is cut off or damaged: what stands before the damage is shown." in evidence.missing
        shown(evidence)

    check()


@pytest.mark.parametrize("field", [name for name in Profile.model_fields if name != "schema_version"])
@pytest.mark.parametrize("change", ["gone", "nonsense"])
def test_any_field_may_be_missing_or_nonsense(written, damaged, field, change):
    data = dict(written[1])
    if change == "gone":
        del data[field]
    else:
        data[field] = 17.5
    evidence = damaged(data)
    shown(evidence)
    defaults = {"dataset", "probe_costs", "failures", "reference", "compass_version", "created", "workload", "dataset_size",
                "data_cap", "fingerprint", "runtime", "asked"}  # fmt: skip
    assert evidence.missing or field in defaults


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (("plans", "production", "candidates"), "production: candidates cannot be read and is left out."),
        (("plans", "production", "measured"), "production is left out: measured: expected a group of values."),
        (("plans", "production"), "production is left out: all of it: expected a group of values."),
        (("hardware",), "`hardware` cannot be read: all of it: expected a group of values."),
        (("probe_log", 3), "1 of {n} probes in the profile cannot be read."),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(written, damaged, place, says):
    data = json.loads(json.dumps(written[1]))
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = "nonsense"
    evidence = damaged(data)
    assert says.format(n=len(data["probe_log"])) in evidence.missing
    shown(evidence)


def test_a_changed_figure_is_noticed(written, damaged):
    data = json.loads(json.dumps(written[1]))
    data["plans"]["validation"]["choice"]["batch_size"] += 1
    (said,) = damaged(data).missing
    assert said == (
        "The profile: it was changed after Compass wrote it, or is damaged: what was certified may no longer be what it says."
    )


def test_a_field_of_a_newer_kind_costs_only_itself(written, damaged):
    data = json.loads(json.dumps(written[1]))
    data["plans"]["validation"]["mood"] = "good"
    del data["checksum"]
    evidence = damaged(data)
    assert evidence.missing == ("validation: mood cannot be read and is left out.",)
    assert evidence.plans["validation"].choice.capacity == data["plans"]["validation"]["choice"]["capacity"]


def test_a_profile_of_before_candidates_were_recorded(whole):
    def older(plan):
        measured = plan.measured.model_copy(update={"terms": None})
        return plan.model_copy(update={"candidates": (), "what_ifs": (), "measured": measured})

    plans = {stage: older(plan) for stage, plan in whole.plans.items()}
    evidence = of_profile(whole.model_copy(update={"plans": plans, "probe_log": ()}), "p.json")
    assert evidence.missing == (
        "The profile does not hold the probes behind it: an older Compass wrote it.",
        "The other candidates are not recorded for prototyping, validation, production: an older Compass wrote it.",
    )
    page = shown(evidence)
    for row in whole.plans["prototyping"].runners_up:
        assert f"{row.capacity:,}" in page


def test_stages_that_were_not_asked_for_are_named(whole):
    some = whole.model_copy(update={"plans": {"prototyping": whole.plans["prototyping"]}})
    assert of_profile(some, "p").missing == ("Not in this profile: smoke_test, validation, production.",)


# ------------------------------------------------------------------------------------------------------- what is refused

NOTHING = "got nothing that a profile has; expected a hardware_profile.json. Run `compass optimize` to write it anew."


@pytest.mark.parametrize("text", ["", "nonsense", "[1, 2]", '{"a": 1}', "3"])
def test_what_is_no_profile_at_all_is_refused(damaged, tmp_path, text):
    with pytest.raises(InputError) as error:
        damaged(text)
    assert str(error.value) == f"profile {tmp_path}/damaged.json: {NOTHING}"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError) as error:
        read_evidence(tmp_path / "none.json")
    assert str(error.value) == (
        f"profile {tmp_path}/none.json: got No such file or directory; expected a hardware_profile.json. "
        "Run `compass optimize` first."
    )


def test_a_newer_profile_is_not_guessed_at(written, damaged, tmp_path):
    with pytest.raises(NewerProfileError) as error:
        damaged({**written[1], "schema_version": 99})
    assert str(error.value) == (
        f"profile {tmp_path}/damaged.json: got schema version 99; expected at most {SCHEMA_VERSION}. "
        "Upgrade Compass, or write the profile anew."
    )


# ------------------------------------------------------------------------------------------------------------ the ledger


def probe(layers, status=Status.OK):
    spec = ProbeSpec(
        knobs=Knobs(layers=layers, channels=32), batches=(Batch(members=(("1ia1", 4),)),), min_steps=1, max_steps=1,
        timeout_s=1.0, runtime=RuntimeSettings(threads=1),
    )  # fmt: skip
    return spec, Outcome(status=status, detail="why", load=Load(graphs=4, sizes=()), wall_s=1.5)


def test_only_probes_under_the_profiles_fingerprint_are_told(evidence):
    own, other = evidence.fingerprint.key, "0" * 16
    entries = [(own, *probe(2)), (other, *probe(3)), (own, *probe(4, Status.CRASHED)), (own, *probe(2))]
    found = with_probes(evidence, entries, ["The ledger is damaged."])
    assert [spec.knobs.layers for spec, _ in found.probes] == [2, 4]
    assert found.missing == ("The ledger is damaged.",)
    assert ("the ledger", "2 probes on this machine, 1 of which did not run to their end") in view_of(found).cost


def test_a_ledger_of_another_machine_says_so(evidence):
    found = with_probes(evidence, [("0" * 16, *probe(2))])
    assert found.missing == ("The ledger holds 1 probes, none of them made under this profile's fingerprint.",)


def test_without_a_fingerprint_the_ledger_is_left_out(written, damaged):
    data = dict(written[1])
    del data["fingerprint"], data["checksum"]
    found = with_probes(damaged(data), [("0" * 16, *probe(2))])
    assert found.missing == ("The ledger is left out: the profile does not name the machine of its measurements.",)


def test_an_old_profile_tells_its_search_from_the_ledger(whole, evidence):
    own = evidence.fingerprint.key
    old = of_profile(whole.model_copy(update={"probe_log": ()}), "p.json")
    view = view_of(with_probes(old, [(own, *probe(2)), (own, *probe(3, Status.TIMED_OUT))]))
    assert [row[5] for row in view.tables["search"].rows] == ["ran", "timed out: why"]
    assert view.predictions == ()
