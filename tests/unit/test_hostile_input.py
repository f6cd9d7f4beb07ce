"""What fuzzing found in files and words from outside: pipes, devices, bombs, digits of other scripts. The structures' part is in `data`."""

import contextlib
import json
import os

import pytest

from compass.config_files import load_config, project_file
from compass.errors import InputError, WorkerError, printable, shortened
from compass.files import open_file, read_file, read_record
from compass.probe.process import answer_in
from compass.probe.store import Store, read_ledger
from compass.profile import read_profile, write_profile
from compass.records.nouns import counted
from compass.reporting.evidence import read_evidence
from compass.training.run_lock import lock_run
from compass.units import parse_bytes, parse_seconds
from compass.workloads.triplets import cached_counts

HELP = "`compass config` shows every key with its reason."


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    return tmp_path / "pipe.json"


# --------------------------------------------------------------------------------------------------------------- files


def test_a_pipe_and_a_device_are_no_files(pipe, tmp_path):
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (pipe, tmp_path / "zero"):
        with pytest.raises(OSError, match="a pipe or a device, not a file"):
            open_file(path)
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        open_file(tmp_path)


def test_a_file_is_read_up_to_its_limit(tmp_path):
    (tmp_path / "x").write_bytes(b"x" * 2049)
    assert read_file(tmp_path / "x") == read_file(tmp_path / "x", 2049) == b"x" * 2049
    with pytest.raises(OSError, match="a file of more than 2 KiB"):
        read_file(tmp_path / "x", 2048)


def test_a_record_has_no_million_values(tmp_path):
    (tmp_path / "x").write_bytes(b"[" + b"0," * 200_001 + b"0]")
    with pytest.raises(OSError, match="a file of more than 200,000 values"):
        read_record(tmp_path / "x")


@pytest.mark.parametrize("read", [read_profile, read_evidence])
def test_a_profile_is_never_awaited_from_a_pipe(pipe, read):
    with pytest.raises(InputError, match=r"got a pipe or a device, not a file; expected a hardware_profile.json"):
        read(pipe)


@pytest.mark.parametrize("read", [read_profile, read_evidence])
def test_a_profile_of_a_million_probes_is_none(tmp_path, read):
    (tmp_path / "p.json").write_bytes(b'{"probe_log": [' + b"{}," * 1_000_000 + b"0]}")
    with pytest.raises(InputError, match=r"got a file of more than 200,000 values; expected a hardware_profile.json"):
        read(tmp_path / "p.json")


def test_an_unknown_part_that_is_named_otherwise_than_it_stands_there_is_reported(profile, tmp_path):
    write_profile(profile, tmp_path / "p.json")
    data = json.loads((tmp_path / "p.json").read_text())
    plan = next(iter(data["plans"].values()))
    plan["choice"] = [plan["choice"]]
    plan["what"] = 1
    data["plans"] = list(data["plans"].items())
    (tmp_path / "p.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"Run `compass optimize` to write it anew"):
        read_profile(tmp_path / "p.json")


def test_a_line_of_megabytes_in_the_ledger_is_damaged(tmp_path):
    (tmp_path / "probes.jsonl").write_bytes(b"00000000 " + b"x" * 2_000_000 + b"\n")
    assert read_ledger(tmp_path / "probes.jsonl").n_damaged == 1


def test_the_ledger_is_no_device(tmp_path):
    (tmp_path / "probes.jsonl").symlink_to("/dev/null")
    with pytest.raises(InputError, match="got a pipe or a device, not a file; expected a file in a writable folder"):
        Store(tmp_path / "probes.jsonl")


def test_a_note_of_who_holds_the_lock_may_be_nonsense(tmp_path):
    first = lock_run(tmp_path)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, first)
        (note,) = (path for path in tmp_path.iterdir() if path.is_file())
        note.write_text("[" * 100_000)
        with pytest.raises(InputError, match="got one in which another process trains"):
            lock_run(tmp_path)


def test_counts_that_cannot_be_read_are_made_anew(tmp_path):
    (tmp_path / "counts.json").write_text("[" * 100_000)
    assert cached_counts(tmp_path / "counts.json", "d", ["x"], len) == {"x": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: !!int ''", "a tag on a value that it does not suit"),
        ("seed: !!timestamp soon", "a tag on a value that it does not suit"),
        ("stages:\n  ~: {target_s: 3}", "the key None is no text"),
    ],
)
def test_tags_and_keys_of_yaml_that_are_none(tmp_path, text, says):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=says):
        load_config(tmp_path / "a.yaml")


# --------------------------------------------------------------------------------------------------------------- words


def test_a_count_of_400_digits_is_written_out():
    assert counted(10**400, "graphs").startswith("10,000,000")
    assert [counted(count, "graphs") for count in (0, 1, 1.0, 1200.4)] == [
        "0 graphs",
        "1 graph",
        "1 graph",
        "1,200 graphs",
    ]


def test_a_message_shows_the_ends_of_a_word_of_megabytes():
    error = InputError("--set", got="a" * 10**6, expected="x", fix="y")
    assert str(error) == f"--set: got {'a' * 200} … {'a' * 200}; expected x. y"
    assert shortened("b" * 400) == "b" * 400


def test_a_byte_order_mark_is_shown():
    assert printable("\ufeffx") == r"\ufeffx"


@pytest.mark.parametrize("text", ["６GiB", "٣GiB", "9" * 400, "9" * 400 + "GiB", "1" + "0" * 31])
def test_a_size_is_written_in_ascii_and_is_finite(text):
    with pytest.raises(InputError, match="expected a size such as 6GiB"):
        parse_bytes(text, where="x")


@pytest.mark.parametrize("text", ["１２", "٣h", "9" * 400, "9" * 309 + "d"])
def test_a_time_is_written_in_ascii_and_is_finite(text):
    with pytest.raises(InputError, match="expected a time above zero"):
        parse_seconds(text, where="x")


@pytest.mark.parametrize(
    "line", ["", "{", "[" * 100_000, "null", "3", "[]", "{}", '{"ok": 1}', '{"bad_input": 3}', '{"bad_input": {}}']
)
def test_an_answer_that_is_none_is_an_error_of_the_worker(line):
    with pytest.raises(WorkerError, match=r"^the worker gave an answer that cannot be read: "):
        answer_in(line)


def test_the_answers_of_a_worker():
    assert answer_in('{"ok": [1], "last": true}') == ([1], True)
    with pytest.raises(WorkerError, match=r"^a request failed in the worker: x$"):
        answer_in('{"error": "x"}')
    with pytest.raises(InputError, match=r"^w: got 3; expected e. f$"):
        answer_in('{"bad_input": {"where": "w", "got": 3, "expected": "e", "fix": "f"}}')


# ------------------------------------------------------------------------------------------------------------ settings


def refusal(tmp_path, text, name="c.yaml"):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / name)
    return str(caught.value).removeprefix(f"config {tmp_path / name}: ")


@pytest.mark.parametrize(
    ("text", "seed"), [("010", 10), ("1e3", 1000), ("7", 7), ("7.0", 7), ("0", 0), ('"12"', 12), ("+5", 5)]
)
def test_numbers_of_yaml_are_those_of_json(tmp_path, text, seed):
    """YAML 1.1 takes 010 for eight."""
    (tmp_path / "c.yaml").write_text(f"seed: {text}\n")
    assert load_config(tmp_path / "c.yaml").seed == seed


def test_yaml_has_no_numbers_to_the_base_of_sixty(tmp_path):
    got = refusal(tmp_path, "seed: 1:30\n")
    assert got == f"seed: got '1:30'; expected a whole number. {HELP}"


@pytest.mark.parametrize("child", ["{{x: *a{0}, y: *a{0}}}", "[*a{0}, *a{0}]"])
def test_aliases_of_yaml_do_not_multiply(tmp_path, child):
    lines = ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {child.format(i - 1)}" for i in range(1, 60))]
    assert refusal(tmp_path, "\n".join(lines)) == "got more than 100,000 values; expected valid YAML. Correct the file."


def test_a_circle_in_yaml_is_refused(tmp_path):
    assert "got more than 100,000 values; expected valid YAML" in refusal(tmp_path, "dataset: &a {path: *a}\n")


def test_settings_of_megabytes_are_refused(tmp_path):
    text = "a" + ".a" * 1_000_000 + " = 1"
    expected = "got a file of more than 256 KiB; expected a file that can be read. `compass config --out my_config.py`"
    assert refusal(tmp_path, text, "c.toml") == f"{expected} writes one."


def test_a_key_of_thousands_of_parts_is_refused_at_once(tmp_path):
    got = refusal(tmp_path, "a" + ".a" * 100_000 + " = 1", "c.toml")
    assert got == "got a line of more than 2,000 characters; expected valid TOML. Correct the file."


def test_settings_are_never_awaited_from_a_pipe(tmp_path):
    for name in ("c.toml", "c.py", "pyproject.toml"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match="got a pipe or a device, not a file"):
            load_config(tmp_path / name)
    assert project_file(tmp_path) is None


def test_a_plan_without_a_reason_is_shown(profile, capsys):
    from compass.cli.tables import print_profile

    plan = profile.plans["prototyping"].model_copy(update={"why": "", "doubts": ("",)})
    print_profile(profile.model_copy(update={"plans": {"prototyping": plan}}))
    assert "prototyping" in capsys.readouterr().out
