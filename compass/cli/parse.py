"""From flags to a `Request`. Unusable values are refused here, before anything starts."""

from __future__ import annotations

import difflib
import errno
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer

from compass.cli.options import FAMILY_NAMES
from compass.cli.say import say
from compass.cli.verbosity import is_quiet
from compass.config_files import SettingChange, load_config, project_file
from compass.errors import InputError
from compass.files import is_special, target_of, unwritable
from compass.optimizer_config import OptimizerConfig
from compass.records import AXES, STAGES, Scalar, Stage
from compass.units import parse_bytes


def load_settings(path: Path | None, changes: Sequence[str | SettingChange] | None = None) -> OptimizerConfig:
    """The settings in `--config` or, without it, in the `[tool.compass]` of this project, with `changes`.

    Raises:
        InputError: the file or a change cannot be used.
    """
    if path is None:
        path = project_file(Path.cwd())
        if path is not None and not is_quiet():
            say(f"settings from [tool.compass] in {path}", err=True)
    return load_config(path, changes or ())


def parse_stages(given: Sequence[str]) -> tuple[Stage, ...]:
    """The stages named in `given`, each entry one name or several with commas, in the order of development."""
    names = [name.strip() for entry in given for name in entry.split(",")]
    for name in names:
        if name not in STAGES:
            close = difflib.get_close_matches(name, STAGES, n=1)
            raise InputError(
                "--stage",
                got=repr(name),
                expected=f"one of {', '.join(STAGES)}",
                fix=f"Did you mean {close[0]}?" if close else "Name one or more of these.",
            )
    return tuple(stage for stage in STAGES if stage in names)


def named(
    words: Sequence[str] | None, stages: Sequence[str] | None = None, profile: Path | None = None
) -> tuple[tuple[Stage, ...], Path | None]:
    """The stages and the profile that are named by position (`words`) or by flag, in either order.

    Raises:
        InputError: a stage that is none, or two profiles.
    """
    of_stage = [word for word in words or () if _means_stage(word)]
    paths = [Path(word) for word in words or () if not _means_stage(word)]
    path = one_profile(*paths, profile, expected=f"one profile, and stages named {', '.join(STAGES)}")
    found = parse_stages([*of_stage, *(stages or ())]) if of_stage or stages else ()
    return found, path


def wanted_stages(words: Sequence[str] | None, stages: Sequence[str] | None) -> tuple[Stage, ...]:
    """The stages that a command without a profile plans, by position (`words`) or by flag; all without any.

    Raises:
        InputError: a word that is no stage.
    """
    found, other = named(words, stages)
    if other is not None:
        raise InputError(
            "STAGE",
            got=repr(str(other)),
            expected=f"one of {', '.join(STAGES)}",
            fix=f"A dataset is named by --dataset {shlex.quote(str(other))}, a profile to write by --out.",
        )
    return found or STAGES


def one_profile(*given: Path | None, expected: str = "one profile") -> Path | None:
    """The profile that is named, by position, by `--profile` or by both; None without one.

    Raises:
        InputError: several are named.
    """
    paths = [path for path in given if path is not None]
    if len(set(paths)) > 1:
        raise InputError("PROFILE", got=" and ".join(map(str, paths)), expected=expected, fix="Name one file.")
    return paths[0] if paths else None


def _means_stage(word: str) -> bool:
    """Whether `word` is a stage, several with commas, or a misspelt one; not the name of a file."""
    if os.path.isfile(word) or set(word) & {".", "/", "\\"}:  # noqa: PTH113 - Path.is_file raises for a name that is too long
        return False
    return all(difflib.get_close_matches(name.strip(), STAGES, n=1) for name in word.split(","))


def one_stage(stages: Sequence[Stage]) -> Stage | None:
    """The only one of `stages`; None without any.

    Raises:
        InputError: there are several.
    """
    if len(stages) > 1:
        raise InputError("--stage", got=", ".join(stages), expected="one stage", fix=f"Name {' or '.join(stages)}.")
    return stages[0] if stages else None


def parse_axes(given: Sequence[str], **flags: Scalar | None) -> dict[str, Scalar]:
    """Values by the axis's name: from the flags that are set, then from every `name=value` of `given`."""
    found = {name: value for name, value in flags.items() if value is not None}
    choices = {axis.name: {str(value).lower(): value for value in axis.values} for axis in AXES}
    for text in given:
        name, _, value = (part.strip() for part in text.partition("="))
        if name not in choices:
            raise InputError("--axis", got=repr(name), expected=f"one of {', '.join(choices)}", fix="Give NAME=VALUE.")
        if value.lower() not in choices[name]:
            raise InputError(
                f"--axis {name}", got=repr(value), expected=" or ".join(choices[name]), fix="Give NAME=VALUE."
            )
        found[name] = choices[name][value.lower()]
    return found


def parse_memory_limit(text: str | None) -> int | None:
    """The bytes that `--memory-limit` gives; None without it."""
    return None if text is None else parse_bytes(text, where="--memory-limit")


def bench_changes(
    *, name: str | None, protein: str | None, ligand: str | None, pocket_radius: str | None, max_atoms: int | None
) -> list[SettingChange]:
    """Changes of settings for the flags of the test bench. A complex without a name is named after its file."""
    if name is None and protein:
        name = Path(protein).name.partition(".")[0]
    given: dict[str, object] = {
        "name": name,
        "protein": protein,
        "ligand": ligand,
        "pocket_radius": pocket_radius,
        "max_atoms": max_atoms,
    }
    values = {field: value for field, value in given.items() if value is not None}
    if pocket_radius is not None and pocket_radius.lower() == "none":
        values["pocket_radius"] = None
    return [
        SettingChange(f"--{field.replace('_', '-')}", f"test_bench.{field}", value) for field, value in values.items()
    ]


def dataset_changes(
    dataset: Path | None, index: Path | None, *, pocket_radius: str | None, max_atoms: int | None
) -> list[SettingChange]:
    """Changes of settings for the flags of the dataset. The pocket's flags change the test bench as well."""
    values: dict[str, tuple[str, object]] = {
        "--dataset": ("path", None if dataset is None else str(dataset)),
        "--index": ("index", None if index is None else str(index)),
        "--max-atoms": ("max_atoms", max_atoms),
        "--pocket-radius": ("pocket_radius", pocket_radius),
    }
    changes = [
        SettingChange(flag, f"dataset.{field}", value) for flag, (field, value) in values.items() if value is not None
    ]
    if pocket_radius is not None and pocket_radius.lower() == "none":
        changes[-1] = SettingChange("--pocket-radius", "dataset.pocket_radius", None)
    return changes


def dataset_size(text: str | None, config: OptimizerConfig, workload: str = FAMILY_NAMES[0]) -> int | None:
    """The size of the dataset: as given, or as answered at a prompt on a terminal, or None for the default.

    A workload that is no built-in family has its own samples, so their number is not asked for.
    """
    given = parse_count(text)
    is_open = not config.dataset.path and workload in FAMILY_NAMES
    if given is None and is_open and sys.stdin.isatty() and sys.stderr.isatty():
        given = typer.prompt(
            "Number of complexes in your dataset", default=config.dataset.default_size, type=int, err=True
        )
    return given


def parse_count(text: str | None) -> int | None:
    """The whole number in `--dataset-size`: `19000`, `19,000`, `19k` or `1.2M`; None without it.

    Raises:
        InputError: anything else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9][0-9,_]{0,29}(?:\.[0-9]{1,30})?)\s*([kKmM]?)", text.strip())
    count = (
        float(match[1].replace(",", "").replace("_", "")) * {"": 1, "k": 1e3, "m": 1e6}[match[2].lower()]
        if match
        else 0.0
    )
    if count < 1 or count != round(count):
        raise InputError(
            "--dataset-size",
            got=repr(text),
            expected="a whole number above zero, such as 19000 or 19k",
            fix="Give the number of complexes, or other samples, that you train on.",
        )
    return round(count)


def check_one_or_all(layers: int | None, channels: int | None, *, whole_space: bool) -> None:
    """Refuse a request that names neither one model nor the whole space, or both."""
    given = [option for option, value in (("--layers", layers), ("--channels", channels)) if value is not None]
    if whole_space and given:
        raise InputError(
            "--all",
            got=f"{' and '.join(given)} as well",
            expected="one model or the whole space",
            fix=f"Leave out --all, or {' and '.join(given)}.",
        )
    if not whole_space and not given:
        raise InputError(
            "model",
            got="neither --layers and --channels nor --all",
            expected="one model or the whole space",
            fix="Give --layers and --channels, or --all.",
        )


def check_csv(csv: str | None, *, as_json: bool) -> None:
    """Refuse `--csv` beside `--json`, and a CSV file that cannot be written."""
    if csv is not None and as_json:
        raise InputError("--csv", got="--json as well", expected="one of the two", fix="Leave one out.")
    if csv not in {None, "-"}:
        check_output(Path(str(csv)), "--csv")


def check_output(out: Path, option: str = "--out") -> None:
    """Refuse an output that cannot be written, before an hour of work goes into its content. A file beside it is tried."""
    try:
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not is_special(out):
            tempfile.TemporaryFile(dir=target_of(out).parent).close()
    except OSError as error:
        raise unwritable(out, error, option) from error
