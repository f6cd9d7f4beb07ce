"""`-v` and `-q` of every command: how much is told on stderr beside the result. What was given is read where something is told."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from compass.errors import InputError
from compass.logs import logging_to_console

VERBOSE, QUIET = "debug", "warning"

_VERBOSE = Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr, e.g. every probe.")]
_QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="Tell only warnings and errors on stderr.")]
_PARAMETERS = [
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
    for name, annotation in (("verbose", _VERBOSE), ("quiet", _QUIET))
]
_given: list[str] = []
"""The level that the running command was given, if any."""


def with_verbosity(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the two flags, of which its function need not know."""
    own = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(*, verbose: bool, quiet: bool, **given: Any) -> None:
        if verbose and quiet:
            raise InputError("-q", got="-v as well", expected="one of the two", fix="Leave one out.")
        _given[:] = [VERBOSE] if verbose else [QUIET] if quiet else []
        with logging_to_console() if verbose else nullcontext():
            command(**given)

    run.__dict__["__signature__"] = own.replace(parameters=[*own.parameters.values(), *_PARAMETERS])
    run.__annotations__ = {
        **{name: parameter.annotation for name, parameter in own.parameters.items()},
        "verbose": _VERBOSE,
        "quiet": _QUIET,
    }
    return run


def log_level(default: str = "info") -> str:
    """The level from which messages are told: as given by a flag, else `default`."""
    return _given[0] if _given else default


def is_quiet() -> bool:
    """Whether progress is not to be told."""
    return _given == [QUIET]


def as_flags() -> list[str]:
    """The flags that give another process of Compass the same level."""
    return {VERBOSE: ["-v"], QUIET: ["-q"]}.get(log_level(""), [])
