"""A finished probe: the input of every fit."""

from __future__ import annotations

from typing import NamedTuple

from compass.records import Outcome, ProbeSpec


class Probe(NamedTuple):
    """A question and its answer."""

    spec: ProbeSpec
    outcome: Outcome
