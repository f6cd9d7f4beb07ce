"""Settings from a file, from a project's `[tool.compass]` and from `--set`, and settings written back as a Python file a person can edit."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import functools
import json
import math
import re
import runpy
import textwrap
import tomllib
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError

from compass.errors import InputError, expected_value
from compass.files import is_special, read_file, write_text
from compass.optimizer_config import OptimizerConfig, Settings, present_names, warn_of_old_name
from compass.units import MIB

_HELP = "`compass config` shows every key with its reason."
_WIDTH = 110
_MOST_BYTES = MIB // 4
"""Of a file of settings. All settings with their reasons have 60 KiB."""
_MOST_VALUES = 100_000
_LONGEST_LINE = 2_000
"""Characters of a line of TOML."""
_NUMBER_TAGS = {
    "tag:yaml.org,2002:int": r"[-+]?(?:0|[1-9][0-9]*)$",
    "tag:yaml.org,2002:float": r"[-+]?(?:(?:0|[1-9][0-9]*)?\.[0-9]+|(?:0|[1-9][0-9]*)\.?)(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$",
}
"""Kind of number → what is read as one."""
_MISSING = object()
PROJECT_FILE = "pyproject.toml"
_TABLE = re.compile(r"^\s*\[\s*tool\s*\.\s*compass\s*[.\]]", re.MULTILINE)
_FREE = "space.options."
"""The group whose keys are the workload's own."""

_Tree = dict[str, Any]
"""The settings as nested dictionaries, groups within groups."""


@dataclass(frozen=True)
class SettingChange:
    """One value given on the command line: the flag it came by, the dotted key it sets, and what to."""

    flag: str
    key: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> SettingChange:
        """The change in `dotted.key=value`; the value is JSON or a Python literal, else the text itself.

        Raises:
            InputError: no `=`, or no key before it.
        """
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise InputError(
                "--set",
                got=repr(text),
                expected="dotted.key=value",
                fix="For example --set stages.prototyping.target_s=30min.",
            )
        return cls(f"--set {key}", key, _Given(value.strip()))


@dataclass(frozen=True)
class _Given:
    """A value as it was typed. What it means depends on the setting: a name such as 1e10 is not a number."""

    text: str

    def read_as(self, current: Any) -> Any:
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(self.text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            return self.text if isinstance(current, str) and not isinstance(value, str) else value
        return self.text


def load_config(
    path: Path | None = None,
    changes: Sequence[str | SettingChange] = (),
    base: OptimizerConfig = OptimizerConfig(),  # noqa: B008 - frozen
) -> OptimizerConfig:
    """`base`, changed by the file at `path`, then by each of `changes` (`dotted.key=value`) in turn.

    A `.py` file defines `config = OptimizerConfig(...)`; a `.toml`, `.yaml` or `.json` file holds only the keys that differ, a
    `pyproject.toml` holds them under `[tool.compass]`.

    Raises:
        InputError: the file cannot be read, a key does not exist, or a value is of the wrong kind or out of range.
    """
    tree: _Tree = base.model_dump()
    if path is not None:
        _merge(tree, present_names(_read_tree(path), warn_of_old_name), source=f"config {path}: ")
    parsed = [
        _by_present_name(SettingChange.parse(change) if isinstance(change, str) else change) for change in changes
    ]
    for change in parsed:
        _apply(tree, change)
    try:
        config = OptimizerConfig.model_validate(tree)
    except ValidationError as error:
        raise _explained(error, path, parsed) from error
    _check_finite(config.model_dump(), path, parsed)
    return config


# ------------------------------------------------------------------------------------------------------------ files


def project_file(folder: Path) -> Path | None:
    """The `pyproject.toml` in `folder`, if it has settings of Compass.

    Those of folders above do not count: paths in them would mean other files here.
    """
    path = folder / PROJECT_FILE
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if _TABLE.search(_text_of(path)):
            return path
    return None


def _read_tree(path: Path) -> _Tree:
    where = f"config {path}"
    read = _READERS.get(path.suffix)
    try:
        if path.suffix == ".py":
            return _run(path)
        if read is None:
            raise InputError(
                where,
                got=f"a name ending in {path.suffix!r}",
                expected="a .py, .toml, .yaml or .json file",
                fix="`compass config --out my_config.py` writes one.",
            )
        tree = read(_text_of(path))
    except OSError as error:
        raise InputError(
            where,
            got=error.strerror or str(error),
            expected="a file that can be read",
            fix="`compass config --out my_config.py` writes one.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            where, got=_one_line(error), expected=f"valid {path.suffix[1:].upper()}", fix="Correct the file."
        ) from error
    if path.name == PROJECT_FILE:
        tree = _of_compass(tree, where)
    if not isinstance(tree, dict):
        raise InputError(where, got=repr(tree), expected="groups of settings", fix=_HELP)
    return tree


def _of_compass(tree: Any, where: str) -> Any:
    """What a project's file holds for Compass."""
    tool = tree.get("tool")
    if not isinstance(tool, dict) or "compass" not in tool:
        raise InputError(
            where,
            got="no [tool.compass]",
            expected="settings of Compass in it",
            fix="Add the table, or name another file.",
        )
    return tool["compass"]


def _text_of(path: Path) -> str:
    """The text of a file of settings.

    Raises:
        OSError: it cannot be read, or is no file of settings by its size.
        ValueError: it is not UTF-8.
    """
    return read_file(path, _MOST_BYTES).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def _read_toml(text: str) -> Any:
    """What TOML says. Python's reader takes minutes for a key of many thousand parts, which no line may hold."""
    if max(map(len, text.split("\n"))) > _LONGEST_LINE:
        raise ValueError(f"a line of more than {_LONGEST_LINE:,} characters")
    return tomllib.loads(text)


def _read_yaml(text: str) -> Any:
    import yaml

    try:
        found = yaml.load(text, Loader=_yaml_loader())  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:  # what yaml makes of `!!int ''`
        raise ValueError("a tag on a value that it does not suit") from error
    _check_amount(found)
    for bad in _not_text(found):
        raise ValueError(f"the key {bad!r} is no text: put it in quotes")
    return {} if found is None else found


def read_yaml_file(path: Path) -> Any:
    """What the YAML file at `path` says, by the rules of a file of settings: numbers are those of JSON.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no UTF-8 or no YAML, or holds more than any settings.
    """
    return _read_yaml(_text_of(path))


@functools.cache
def _yaml_loader() -> Any:
    """PyYAML's safe loader with the numbers of YAML 1.2 and of JSON: 1.1 takes 010 for eight and 1:30 for ninety."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc] # PyYAML has no types
        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
            first: [(tag, form) for tag, form in forms if tag not in _NUMBER_TAGS]
            for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    for tag, form in _NUMBER_TAGS.items():
        Loader.add_implicit_resolver(tag, re.compile(form), list("-+.0123456789"))
    return Loader


def _check_amount(tree: Any) -> None:
    """Refuse a tree of more values than any settings have: a few aliases in YAML make millions, or a circle.

    Raises:
        ValueError: it has more.
    """
    waiting, n_values = [tree], 0
    while waiting:
        node = waiting.pop()
        children = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple, set)) else ()
        n_values += 1 + len(children)
        if n_values > _MOST_VALUES:
            raise ValueError(f"more than {_MOST_VALUES:,} values")
        waiting += children


def _not_text(tree: Any) -> Iterator[Any]:
    """The keys that are no text, as YAML makes of `on`, `1` and nothing."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if not isinstance(key, str):
                yield key
            yield from _not_text(value)


_READERS: dict[str, Callable[[str], Any]] = {
    ".json": json.loads,
    ".toml": _read_toml,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}


def _run(path: Path) -> _Tree:
    where = f"config {path}"
    read_file(path, _MOST_BYTES)  # so that any later OSError is the script's own
    try:
        config = runpy.run_path(str(path)).get("config", _MISSING)
    except ValidationError as error:
        raise _explained(error, path, within=error.title) from error
    except (Exception, SystemExit) as error:
        frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else next(iter(reversed(frames)), None)
        got = f"{type(error).__name__}{f' in line {line}' if line else ''}: {_one_line(error)}"
        raise InputError(where, got=got, expected="Python that runs", fix="Correct the file.") from error
    if not isinstance(config, OptimizerConfig):
        got = "no `config`" if config is _MISSING else f"a `config` that is a {type(config).__name__}"
        raise InputError(
            where,
            got=got,
            expected="config = OptimizerConfig(...)",
            fix="`compass config --out my_config.py` writes one.",
        )
    return config.model_dump()


# ------------------------------------------------------------------------------------------------------------- keys


def _merge(tree: _Tree, given: _Tree, *, source: str, group: str = "") -> None:
    """Put what is `given` into `tree`, group by group, so that a group's other settings stay."""
    for name, value in given.items():
        key = f"{group}{name}"
        if name not in tree and group != _FREE:
            raise _unknown(f"{source}{key}", name, tree)
        if isinstance(tree.get(name), dict):
            if not isinstance(value, dict):
                raise InputError(
                    f"{source}{key}",
                    got=repr(value),
                    expected="a group of settings",
                    fix=f"Name one of {', '.join(tree[name])}.",
                )
            _merge(tree[name], value, source=source, group=f"{key}.")
        else:
            tree[name] = value


def _by_present_name(change: SettingChange) -> SettingChange:
    *groups, name = change.key.split(".")
    given: _Tree = {name: change.value}
    for group in reversed(groups):
        given = {group: given}
    parts, below = [], present_names(given, warn_of_old_name)
    for _ in (*groups, name):
        ((part, below),) = below.items()
        parts.append(part)
    return dataclasses.replace(change, key=".".join(parts))


def _apply(tree: _Tree, change: SettingChange) -> None:
    *groups, name = change.key.split(".")
    for group in groups:
        if group not in tree:
            raise _unknown(change.flag, group, tree)
        if not isinstance(tree[group], dict):
            raise InputError(change.flag, got=f"a key below {group!r}", expected="a single value there", fix=_HELP)
        tree = tree[group]
    group = "".join(f"{group}." for group in groups)
    if name not in tree and group != _FREE:
        raise _unknown(change.flag, name, tree)
    value = change.value.read_as(tree.get(name)) if isinstance(change.value, _Given) else change.value
    _merge(tree, {name: value}, source="--set ", group=group)


def _unknown(where: str, name: str, siblings: Collection[str]) -> InputError:
    close = difflib.get_close_matches(name, siblings, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"There are {', '.join(siblings)}."
    return InputError(where, got=f"the unknown key {name!r}", expected="a setting of Compass", fix=hint)


# ----------------------------------------------------------------------------------------------------------- values


def _leaves(tree: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else None
    if children is None:
        yield ".".join(key), tree
    else:
        for name, child in children:
            yield from _leaves(child, (*key, str(name)))


def _check_finite(tree: _Tree, path: Path | None, changes: Sequence[SettingChange]) -> None:
    for key, value in _leaves(tree):
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(_origin(key, path, changes), got=repr(value), expected="a finite number", fix=_HELP)


def _origin(key: str, path: Path | None, changes: Sequence[SettingChange]) -> str:
    """The flag that set `key`, else the file, with the key."""
    for change in reversed(changes):
        if f"{key}.".startswith(f"{change.key}."):
            return f"{change.flag}{key[len(change.key) :]}"
    return f"config {path}: {key}" if path is not None else key


def _explained(
    error: ValidationError, path: Path | None, changes: Sequence[SettingChange] = (), *, within: str = ""
) -> InputError:
    """The first thing pydantic found wrong, in one line; `within` names the class if its place is not known."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])  # a typo leaves a gap as well
    place = ([within] if within else []) + [str(part) for part in first["loc"]]
    got, expected = repr(first["input"]), expected_value(first)
    if first["type"] == "extra_forbidden":  # only Python files: the keys of the others were looked at before
        fields = next((kind.model_fields for kind in Settings.__subclasses__() if kind.__name__ == within), {})
        return _unknown(_origin(".".join(place), path, changes), place[-1], fields)
    if first["type"] == "missing":
        got = "nothing"
    if first["type"] == "value_error":  # a class's own check says "field: what is wrong"
        field, _, wrong = str(first["ctx"]["error"]).partition(": ")
        value = first["input"]
        for part in field.split("."):
            value = value[part] if isinstance(value, dict) else getattr(value, part)
        place, got, expected = [*place, field], f"{value!r}: {wrong}", "values that agree"
    return InputError(_origin(".".join(place), path, changes), got=got, expected=expected, fix=_HELP)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def changed_settings(config: OptimizerConfig) -> dict[str, Any]:
    """The values of `config` that differ from the defaults, by dotted key, as JSON has them."""
    defaults = OptimizerConfig().model_dump(mode="json")
    return dict(_differences(config.model_dump(mode="json"), defaults))


def _differences(tree: _Tree, defaults: _Tree, group: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        default = defaults.get(name, _MISSING)
        if isinstance(value, dict) and isinstance(default, dict):
            yield from _differences(value, default, f"{group}{name}.")
        elif value != default:
            yield f"{group}{name}", value


# ---------------------------------------------------------------------------------------------------------- writing


def render_config(config: OptimizerConfig) -> str:
    """`config` as a Python file with every value and its reason, which loads back to an equal one."""
    classes: set[str] = set()
    body = _render_group(config, 0, classes)
    return (
        '"""Settings of Compass. Change what you like; then\n\n'
        "    compass optimize --config THIS_FILE\n"
        '"""\n\n'
        "from compass.optimizer_config import (\n"
        + "".join(f"    {name},\n" for name in sorted(classes))
        + f")\n\nconfig = {body}\n"
    )


def _render_group(group: BaseModel, depth: int, classes: set[str]) -> str:
    name = type(group).__name__
    classes.add(name)
    indent = "    " * (depth + 1)
    lines: list[str] = []
    for field, info in type(group).model_fields.items():
        value = getattr(group, field)
        reason = info.description or (type(value).__doc__ if isinstance(value, BaseModel) else None) or ""
        lines += textwrap.wrap(
            " ".join(reason.split()), _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
        if isinstance(value, BaseModel):
            lines.append(f"{indent}{field}={_render_group(value, depth + 1, classes)},")
        else:
            lines += _assignment(field, value, indent)
    return "\n".join([f"{name}(", *lines, "    " * depth + ")"])


def _assignment(field: str, value: Any, indent: str) -> list[str]:
    """`field=value,` as lines of source; a long tuple has one item per line."""
    line = f"{indent}{field}={_literal(value)},"
    if len(line) <= _WIDTH or not isinstance(value, tuple):
        return [line]
    return [f"{indent}{field}=(", *(f"{indent}    {_literal(item)}," for item in value), f"{indent}),"]


def _literal(value: Any) -> str:
    match value:
        case tuple():
            return f"({', '.join(map(_literal, value))}{',' if len(value) == 1 else ''})"
        case int() if not isinstance(value, bool):
            return f"{value:_}"
        case str() if '"' not in value:
            return f'"{repr(value)[1:-1]}"'
        case _:
            return repr(value)


def write_config(config: OptimizerConfig, out: Path, *, force: bool = False) -> None:
    """Write `config` to `out` as an editable Python file.

    Raises:
        InputError: `out` is there already and `force` is not given, or cannot be written.
    """
    if out.exists() and not force and not is_special(out):
        raise InputError(
            f"output {out}",
            got="a file that is already there",
            expected="a new file",
            fix="Give --force to overwrite it.",
        )
    write_text(render_config(config), out)
