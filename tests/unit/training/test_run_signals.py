"""A run that a signal ends says so with its exit code, whoever received the signal."""

import signal

import pytest
from pytorch_lightning.utilities.exceptions import SIGTERMException

from compass.training.run import signal_behind


def interrupted():
    error = SystemExit(1)
    error.__context__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize(
    ("error", "stop", "number"),
    [
        (SIGTERMException(), None, signal.SIGTERM),  # before the first batch: Lightning would exit with 0
        (interrupted(), None, signal.SIGINT),
        (SIGTERMException(), signal.SIGINT, signal.SIGINT),
        (SystemExit(3), None, None),
    ],
)
def test_the_signal_behind_an_exit(error, stop, number):
    assert signal_behind(error, stop) == number
