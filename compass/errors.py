"""The errors that a user can act on. Each has the exit code that the command line ends with."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a group of values",
    "extra_forbidden": "no such field",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "list_type": "a list of values",
    "literal_error": "{expected}",
    "missing": "a value",
    "model_attributes_type": "a group of values",
    "model_type": "a group of values",
    "none_required": "None",
    "string_type": "text",
    "too_long": "at most {max_length} values",
    "too_short": "at least {min_length} values",
    "tuple_type": "a list of values",
}
"""Expected values in words, by the type of pydantic's error; names in braces stand in the error's context."""


_MOST_SHOWN = 400
"""Characters of one part of a message. A damaged file may hold a word of megabytes."""
_TURNING = {chr(code) for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF)}


def printable(text: str) -> str:
    """`text` without anything that a terminal would act on: control characters and bytes that are no text are written as escapes.

    Names in files of other people may hold them. So are the marks that show nothing, such as a byte order mark.
    """
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape", "surrogatepass").decode("ascii") if _acts(letter) else letter for letter in text
    )


def printable_lines(text: str) -> str:
    """`text` as `printable` gives it, with its line breaks and tabs."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def _acts(letter: str) -> bool:
    """Whether it is a control character, a line end, no character at all, or turns the direction of writing."""
    return unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} or letter in _TURNING


def shortened(text: str) -> str:
    """`text` with its middle left out if it is longer than a message can show."""
    half = _MOST_SHOWN // 2
    return text if len(text) <= _MOST_SHOWN else f"{text[:half]} … {text[-half:]}"


class CompassError(Exception):
    """Base of every error that is shown as one line instead of a traceback."""

    exit_code = 2


class InputError(CompassError):
    """A value, file or option from the user cannot be used.

    `where` names the field or file, `got` the value found there, `expected` a valid one, and `fix` the next step.
    """

    def __init__(self, where: str, *, got: str, expected: str, fix: str) -> None:
        parts = (shortened(printable(part)) for part in (where, got, expected, fix))
        super().__init__("{}: got {}; expected {}. {}".format(*parts))
        self.where, self.got, self.expected, self.fix = where, got, expected, fix


class WorkerError(CompassError):
    """The worker process could not be started, or broke the protocol: no measurement is possible here."""

    exit_code = 1


class NonFiniteLoss(ArithmeticError):  # noqa: N818 - named after the event
    """The training loss, or the norm of its gradient, is not a number or infinite: the configuration runs but does not train."""

    def __init__(self, value: float, what: str = "loss") -> None:
        super().__init__(f"the {what} became {value}")
        self.value, self.what = value, what


class Overflow(NonFiniteLoss):
    """The scaled gradient of an update under fp16 overflowed. The next update has a smaller scale."""

    def __init__(self, value: float) -> None:
        super().__init__(value, "scaled gradient's norm")


def expected_value(detail: ErrorDetails) -> str:
    """The value that pydantic expected where it found the error `detail`, in words."""
    template = _EXPECTED.get(detail["type"])
    return detail["msg"] if template is None else template.format(**detail.get("ctx", {}))


class RanksDisagree(CompassError):  # noqa: N818 - it names what happened
    """Processes that train together hold different weights after the same updates."""

    exit_code = 3

    def __init__(self, low: float, high: float) -> None:
        """`low` and `high` are the smallest and the largest norm of a process's weights."""
        super().__init__(
            f"the ranks disagree: after the same updates the norm of their weights is {low:.6g} to {high:.6g}; "
            "something changes weights in one process alone"
        )
