"""A finished probe, as the fits take it."""

from __future__ import annotations

from typing import NamedTuple

from compass.records import Outcome, ProbeSpec


class Probe(NamedTuple):
    """A question and its answer."""

    spec: ProbeSpec
    outcome: Outcome
