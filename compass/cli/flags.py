"""Commands whose flags take no value: none is shown in the help, and one that is given is refused in a sentence.

Nor does the help show how an argument is held in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from typer.core import TyperCommand, TyperGroup

from compass.errors import InputError

_VALUES = {"true", "false", "yes", "no", "on", "off", "0", "1"}
_NO_TYPE = " "
"""In place of `<bool>`; an empty text would mean that the type is to be shown."""


class PlainCommand(TyperCommand):
    """A command whose flags take no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters, flags without a type."""
        return _without_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line.

        Raises:
            InputError: a flag is followed by a value such as `true`.
        """
        _check_flags(self.get_params(ctx), args)
        return super().parse_args(ctx, args)


class PlainGroup(TyperGroup):
    """A group of commands whose own flags take no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters, flags without a type."""
        return _without_types(super().get_params(ctx))


def _without_types(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = _NO_TYPE
        elif param.param_type_name == "argument":
            param.display_type_rich = _no_type  # beside its name, which says what it is
    return params


def _no_type(**_: Any) -> None:
    """Instead of `<path>` or `<list[str]>`."""


def _check_flags(params: Sequence[Any], args: Sequence[str]) -> None:
    flags = {
        name for param in params if getattr(param, "is_flag", False) for name in (*param.opts, *param.secondary_opts)
    }
    for flag, following in pairwise(args):
        if flag in flags and following.lower() in _VALUES:
            raise InputError(
                flag,
                got=f"the value {following!r}",
                expected="no value, because it is a flag",
                fix=f"Write {flag} alone, or leave it out.",
            )
