"""The errors a person can act on. Each carries the exit code the command line ends with."""

from __future__ import annotations


class CompassError(Exception):
    """Base of every error that is shown as one line instead of a traceback."""

    exit_code = 2


class InputError(CompassError):
    """Something the user gave cannot be used.

    `where` names the field or file, `got` what stood there, `expected` what should have, and `fix` what to do.
    """

    def __init__(self, where: str, *, got: str, expected: str, fix: str) -> None:
        super().__init__(f"{where}: got {got}; expected {expected}. {fix}")
        self.where, self.got, self.expected, self.fix = where, got, expected, fix


class WorkerError(CompassError):
    """The worker process could not be started or broke the protocol: nothing can be measured here."""

    exit_code = 1


class NonFiniteLoss(ArithmeticError):  # noqa: N818 - it names what happened
    """The training loss is not a number or infinite: the configuration runs but does not train."""

    def __init__(self, value: float) -> None:
        super().__init__(f"the loss became {value}")
        self.value = value
