"""Words by position, counts with a suffix."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from compass.cli.app import app
from compass.cli.parse import named, one_stage, parse_count
from compass.errors import InputError


@pytest.mark.parametrize(
    ("words", "flags", "profile", "found"),
    [
        ([], [], None, ((), None)),
        (["production"], [], None, (("production",), None)),
        (["p.json"], [], None, ((), Path("p.json"))),
        (["p.json", "production"], [], None, (("production",), Path("p.json"))),
        (["validation", "p.json"], ["smoke_test"], None, (("smoke_test", "validation"), Path("p.json"))),
        ([], ["smoke_test,validation"], Path("p.json"), (("smoke_test", "validation"), Path("p.json"))),
        (["runs/production"], [], None, ((), Path("runs/production"))),
        (None, [], Path("p.json"), ((), Path("p.json"))),
    ],
)
def test_stages_and_profiles_are_named_in_any_order(words, flags, profile, found):
    assert named(words, flags, profile) == found


def test_a_file_may_be_called_like_a_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named(["production"]) == (("production",), None)
    Path("production").touch()
    assert named(["production"]) == ((), Path("production"))


@pytest.mark.parametrize(
    ("words", "profile", "error"),
    [
        (["pro_duction"], None, "--stage: got 'pro_duction'; expected one of smoke_test, prototyping, validation, production. "
                               "Did you mean production?"),
        (["a.json", "b.json"], None, "PROFILE: got a.json and b.json; expected one profile, and stages named smoke_test, "
                                     "prototyping, validation, production. Name one file."),
        (["a.json"], Path("b.json"), "PROFILE: got a.json and b.json; expected one profile, and stages named smoke_test, "
                                     "prototyping, validation, production. Name one file."),
    ],
)  # fmt: skip
def test_what_is_neither(words, profile, error):
    with pytest.raises(InputError) as caught:
        named(words, (), profile)
    assert str(caught.value) == error


def test_only_one_stage():
    assert one_stage(()) is None
    assert one_stage(("validation",)) == "validation"
    with pytest.raises(
        InputError, match=r"^--stage: got smoke_test, validation; expected one stage\. Name smoke_test or validation\.$"
    ):
        one_stage(("smoke_test", "validation"))


@pytest.mark.parametrize(
    ("text", "count"),
    [(None, None), ("19000", 19_000), ("19,000", 19_000), ("19k", 19_000), ("1.2M", 1_200_000), (" 1 ", 1)],
)
def test_counts(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["0", "-3", "many", "1.5", "19kk", "", "1e3", "１２", "9" * 350, "1" * 31])
def test_what_is_no_count(text):
    with pytest.raises(InputError) as caught:
        parse_count(text)
    assert str(caught.value) == (
        f"--dataset-size: got {text!r}; expected a whole number above zero, such as 19000 or 19k. "
        "Give the number of complexes, or other samples, that you train on."
    )


def test_a_word_too_long_for_a_name_of_a_file():
    words = ",".join(["production"] * 500)
    assert named([words]) == (("production",), None)
    assert named(["x" * 300]) == ((), Path("x" * 300))


@pytest.mark.parametrize("command", ["show", "report", "verify", "train", "explain", "export"])
def test_a_path_too_long_for_a_file_is_one_line(command):
    result = CliRunner().invoke(app, [command, "a" * 300])
    assert isinstance(result.exception, (InputError, SystemExit)), result.exception
