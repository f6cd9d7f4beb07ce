import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.errors import InputError
from compass.profile import (
    SCHEMA_VERSION,
    ProbeCosts,
    Profile,
    json_schema,
    laid_out,
    read_profile,
    stale,
    write_profile,
)
from compass.records import Description, Fingerprint, RuntimeChoice, RuntimeSettings


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hardware_profile.json"


def test_round_trip(profile, path):
    write_profile(profile, path)
    assert read_profile(path) == profile


@given(
    st.builds(ProbeCosts, wall_s=st.floats(0, 1e9), **{n: st.integers(0, 10**6) for n in ("reused", "out_of_memory")})
)
def test_a_ledger_round_trips(ledger):
    assert ProbeCosts.model_validate_json(ledger.model_dump_json()) == ledger


def test_writing_replaces_and_leaves_nothing_beside_it(profile, path):
    path.write_text("old")
    write_profile(profile, path)
    assert read_profile(path) == profile
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(profile, path, monkeypatch):
    write_profile(profile, path)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compass.files.os.fsync", full)
    with pytest.raises(InputError) as error:
        write_profile(profile.model_copy(update={"dataset_size": 7}), path)
    assert str(error.value) == (
        f"output {path}: got No space left on device; expected a file in a writable folder. Choose another --out."
    )
    assert read_profile(path) == profile
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_folder_that_is_not_there(profile, tmp_path):
    path = tmp_path / "nowhere" / "profile.json"
    with pytest.raises(InputError) as error:
        write_profile(profile, path)
    assert str(error.value) == (
        f"output {path}: got No such file or directory; expected a file in a writable folder. Choose another --out."
    )


def test_the_schema_is_of_the_current_version(profile):
    assert json_schema()["properties"]["schema_version"]["default"] == SCHEMA_VERSION
    assert set(json_schema()["properties"]) == {*json.loads(profile.model_dump_json()), "checksum"}


def test_a_newer_schema_is_refused(profile, path):
    data = json.loads(profile.model_dump_json()) | {"schema_version": SCHEMA_VERSION + 1, "from_the_future": True}
    path.write_text(json.dumps(data))
    with pytest.raises(InputError) as error:
        read_profile(path)
    assert str(error.value) == (
        f"profile {path}: got schema version {SCHEMA_VERSION + 1}; expected at most {SCHEMA_VERSION}. Upgrade Compass, or write the profile anew."
    )


def test_a_missing_file(path):
    with pytest.raises(InputError) as error:
        read_profile(path)
    assert str(error.value) == (
        f"profile {path}: got No such file or directory; expected a hardware_profile.json. "
        "Run `compass optimize` first."
    )


@pytest.mark.parametrize("content", [b"", b'{"schema_version": 1, "plans', b"\x00\xff\xfe"])
def test_a_damaged_file(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_profile(path)
    assert str(error.value) == (
        f"profile {path}: got text that is not JSON; expected a hardware_profile.json. "
        "Run `compass optimize` to write it anew."
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"dataset_size": "many"}, "dataset_size: got 'many'; expected a whole number"),
        ({"hardware": {}}, "hardware.kind: got nothing; expected a value"),
    ],
)
def test_a_file_that_is_no_profile_names_the_field(profile, path, change, found):
    path.write_text(json.dumps(json.loads(profile.model_dump_json()) | change))
    with pytest.raises(InputError) as error:
        read_profile(path)
    assert str(error.value) == (f"profile {path}, {found}. Run `compass optimize` to write it anew.")


def test_what_a_later_version_added_is_left_out_with_a_warning(profile, path, caplog):
    data = json.loads(profile.model_dump_json()) | {"colour": "red"}
    data["plans"]["prototyping"]["measured"]["mood"] = "good"
    path.write_text(json.dumps(data))
    assert read_profile(path) == profile
    assert caplog.messages == [
        f"profile {path}: left out, because this version of Compass does not know it: plans.prototyping.measured.mood, colour"
    ]
    assert json.loads(path.read_text()) == data  # not a byte of the file changes


def test_maps_are_objects_and_lists_of_pairs_are_still_read(profile, path):
    write_profile(profile, path)
    data = json.loads(path.read_text())
    assert data["fingerprint"]["versions"] == {"torch_geometric": "2.8"}
    assert data["plans"]["prototyping"]["choice"]["load"]["sizes"] == dict(
        profile.plans["prototyping"].choice.load.sizes
    )
    data["fingerprint"]["versions"] = [["torch_geometric", "2.8"]]
    path.write_text(json.dumps(data | {"schema_version": 2}))
    assert read_profile(path) == profile


def test_every_field_is_described():
    schema = json_schema()

    def is_described(field):
        parts = [field, field.get("items", {}), *field.get("anyOf", []), *field.get("allOf", [])]
        kinds = [part["$ref"].split("/")[-1] for part in parts if "$ref" in part]
        return "description" in field or any("description" in schema["$defs"][kind] for kind in kinds)

    fields = [(name, field, said) for name, kind in {"Profile": schema, **schema["$defs"]}.items()
              for field, said in kind.get("properties", {}).items()]  # fmt: skip
    assert [(name, field) for name, field, said in fields if not is_described(said)] == []
    assert schema["$id"] == f"urn:compass:hardware_profile:{SCHEMA_VERSION}"


def test_json_that_is_no_object(path):
    path.write_text("[]")
    with pytest.raises(InputError, match=r"the whole file: got \[\]; expected a group of values"):
        read_profile(path)


def only(profile: Profile, *stages: str) -> Profile:
    plans = {stage: plan for stage, plan in profile.plans.items() if stage in stages}
    failures = {stage: failure for stage, failure in profile.failures.items() if stage in stages}
    return profile.model_copy(update={"plans": plans, "failures": failures})


def test_earlier_stages_are_kept(profile):
    assert only(profile, "prototyping").with_earlier(only(profile, "smoke_test", "validation")) == profile


def test_runtime_settings_go_with_the_stages_they_are_for(profile):
    def loading(stage, chosen):
        return RuntimeChoice(setting="loader_workers", stage=stage, chosen=chosen, why="")

    threads = RuntimeChoice(setting="threads", chosen="2", why="")
    earlier = profile.model_copy(update={"runtime": (threads, loading("smoke_test", "1"), loading("prototyping", "1"))})
    now = only(profile, "prototyping").model_copy(update={"runtime": (threads, loading("prototyping", "0"))})
    assert now.with_earlier(earlier).runtime == (*now.runtime, loading("smoke_test", "1"))


def test_a_stage_done_again_replaces_the_earlier_one(profile):
    done = only(profile, "validation")
    earlier = profile.model_copy(
        update={"plans": {"validation": profile.plans["prototyping"]}, "failures": {"smoke_test": "a failure"}}
    )
    kept = done.with_earlier(earlier)
    assert kept.failures == {"validation": profile.failures["validation"], "smoke_test": "a failure"}
    assert kept.plans == {}


def test_another_machine_keeps_nothing(profile):
    elsewhere = profile.fingerprint.model_copy(update={"device": "Another CPU"})
    now = only(profile, "prototyping").model_copy(update={"fingerprint": elsewhere})
    assert now.with_earlier(profile) == now
    assert now.with_earlier(None) == now


def test_published_schema_is_the_model():
    published = json.loads((Path(__file__).parents[2] / "docs/hardware_profile.schema.json").read_text())
    assert published == json.loads(json.dumps(json_schema())), "write docs/hardware_profile.schema.json anew"


# ----------------------------------------------------------------------------------------------------------- stale


def described(profile: Profile, **changes: object) -> Description:
    """A worker of the machine that `profile` was measured on, but for `changes` of its fingerprint."""
    return Description(
        fingerprint=profile.fingerprint.model_copy(update=changes),
        hardware=profile.hardware,
        features=("nodes", "edges"),
        baseline_bytes=2**28,
        samples=(),
    )


def test_nothing_is_stale_where_nothing_changed(profile):
    assert stale(profile, described(profile)) == ()


def test_every_difference_is_named(profile):
    profile = profile.model_copy(
        update={"fingerprint": profile.fingerprint.model_copy(update={"runtime": (("threads", "2"), ("libc", "x"))})}
    )
    now = described(
        profile,
        device="Other CPU",
        driver="linux 7",
        torch="2.14.0",
        versions=(("cuda", "13.1"), ("torch_geometric", "2.9")),
        workload="cd34",
        runtime=(("MALLOC_TRIM_THRESHOLD_", "5"), ("threads", "2")),
    )
    assert stale(profile, now) == (
        "device: Some CPU, now Other CPU",
        "driver: linux, now linux 7",
        "torch: 2.13.0, now 2.14.0",
        "torch_geometric: 2.8, now 2.9",
        "cuda: none, now 13.1",
        "runtime libc: x, now none",
        "runtime MALLOC_TRIM_THRESHOLD_: none, now 5",
        "workload: its code, its options or its samples are not the same now",
    )


@pytest.mark.parametrize("field", sorted(Fingerprint.model_fields))
def test_no_field_changes_in_silence(profile, field):
    """What has another key is stale."""
    other = (("threads", "9"),) if field in {"versions", "runtime"} else "other"
    now = described(profile, **{field: other})
    assert now.fingerprint.key != profile.fingerprint.key
    assert stale(profile, now)


def test_the_runtime_that_a_fingerprint_is_of(profile):
    assert profile.calibrated_runtime == RuntimeSettings(threads=2, allocator="fast")
    assert profile.model_copy(update={"plans": {}}).calibrated_runtime is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_the_layout_changes_nothing_that_is_said(value):
    assert json.loads(laid_out(value)) == value


def test_a_row_of_plain_values_takes_one_line():
    assert laid_out({"a": 1, "rows": [{"b": "é", "c": None}, {}], "d": [1, 2.5]}) == (
        '{\n  "a": 1,\n  "rows": [\n    {"b": "é", "c": null},\n    {}\n  ],\n  "d": [1, 2.5]\n}'
    )


def test_a_stage_without_a_plan_says_why(profile):
    assert profile.plan("prototyping") is profile.plans["prototyping"]
    with pytest.raises(InputError) as caught:
        profile.plan("validation")
    assert str(caught.value) == (
        "stage validation: got no plan: No model of the large space is fast enough.; expected a stage with a "
        "plan (smoke_test, prototyping). Run `compass optimize --stage validation`."
    )
    with pytest.raises(InputError, match=r"^stage production: got no plan: the stage was not planned; "):
        profile.plan("production")


# ------------------------------------------------------------------------------------------------------------ shown


def test_a_profile_in_a_line_and_as_a_table(profile):
    assert repr(profile) == (
        "<Profile of visnet on Some CPU: smoke_test 2 × 32, batch 1; prototyping 6 × 128, batch 32; validation no plan>"
    )
    html = profile.with_earlier(None)._repr_html_()
    assert html.count("<tr>") == 4
    assert "<caption>visnet on Some CPU, 4.00 GiB</caption>" in html
    assert "<td>prototyping</td><td>6 × 128 fp32</td><td>32</td>" in html
    assert "<td colspan=5>no plan: No model of the large space is fast enough.</td>" in html
    assert repr(only(profile)) == "<Profile of visnet on Some CPU: nothing planned>"


def test_a_path_may_be_text(profile, path):
    write_profile(profile, path)
    assert read_profile(str(path)) == profile


def test_a_figure_that_was_changed_is_warned_of(profile, tmp_path, caplog):
    path = tmp_path / "p.json"
    write_profile(profile, path)
    assert read_profile(path) == profile
    assert caplog.text == ""
    text = path.read_text()
    path.write_text(text.replace('"batch_size": 32', '"batch_size": 33', 1))
    assert read_profile(path) != profile
    assert f"profile {path}: it was changed after Compass wrote it, or is damaged" in caplog.text
    caplog.clear()
    path.write_text(json.dumps(json.loads(text), indent=1))  # another layout is no other content
    assert read_profile(path) == profile
    assert caplog.text == ""


def test_a_profile_nested_beyond_reason_is_one_line(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"a":' * 100_000)
    with pytest.raises(InputError, match="got text that is not JSON"):
        read_profile(path)
