"""Options of which the space lists several values: the first is kept where neither speed nor size depends on it much."""

from __future__ import annotations

import math
from collections.abc import Sequence

from compass.records import NORMAL_90, Choice
from compass.search.knowledge import Knowledge
from compass.search.space import listed_values

MOST_UNSURE = 0.1
"""A predicted difference of a tenth in speed counts, however unsure it is: probes and the certificate then tell more."""


def first_options_first(known: Knowledge, choices: Sequence[Choice]) -> tuple[Choice, ...]:
    """`choices`, which are not empty, with one moved to the front: the model of the best in options that are listed earlier.

    Such a model hardly differs from the best in size, and in speed by no more than a measurement could tell.
    """
    pick = choices[0]
    near = [choice for choice in choices if _alike(choice, pick) and _is_level(known, choice, pick)]
    first = min(near, key=lambda choice: _departures(known, choice))
    return (first, *(choice for choice in choices if choice is not first))


def options_words(known: Knowledge, pick: Choice, others: Sequence[Choice]) -> str:
    """What was found for each option that is searched, as the end of a sentence; empty without such options."""
    alike = [choice for choice in others if _alike(choice, pick)]
    return "".join(f"; {_about(known, name, pick, alike)}" for name in pick.knobs.variant.searched)


def _about(known: Knowledge, name: str, pick: Choice, alike: Sequence[Choice]) -> str:
    chosen, values = pick.knobs.variant.option(name), listed_values(known.config.space, name)
    compared = [choice for choice in alike if _only_differs_in(name, choice, pick)]
    listed = ", ".join(map(str, values))
    if not compared:
        return f"{name} {chosen}"
    if all(_is_level(known, choice, pick) for choice in compared):
        return f"{name} changes neither speed nor size measurably, and stays at {chosen}"
    rates, sizes = zip(*((one.throughput, one.capacity) for one in (pick, *compared)), strict=True)
    return (
        f"{name} {chosen} of {listed}: the slowest has {min(rates) / max(rates):.0%} of the fastest's speed, "
        f"the smallest {min(sizes) / max(sizes):.0%} of the largest's parameters"
    )


def _alike(one: Choice, other: Choice) -> bool:
    """Whether only the options of the two models differ."""
    (a, b) = (one.knobs, other.knobs)
    return (a.layers, a.channels, a.variant.axis_values) == (b.layers, b.channels, b.variant.axis_values)


def _only_differs_in(name: str, one: Choice, other: Choice) -> bool:
    pairs = zip(one.knobs.variant.options, other.knobs.variant.options, strict=True)
    return [mine[0] for mine, its in pairs if mine != its] == [name]


def _is_level(known: Knowledge, one: Choice, pick: Choice) -> bool:
    """Whether neither size nor speed tells the two apart: by the share that a certificate may be off, or the prediction's spread."""
    share = known.config.probe.settle_share
    unsure = min(MOST_UNSURE, NORMAL_90 * math.hypot(known.spread_of(one), known.spread_of(pick)))
    near_in_size = abs(one.capacity / pick.capacity - 1) <= share
    return near_in_size and abs(one.throughput / pick.throughput - 1) <= max(share, unsure)


def _departures(known: Knowledge, choice: Choice) -> list[int]:
    """The place of each option's value in its list, the options in order."""
    return [listed_values(known.config.space, name).index(value) for name, value in choice.knobs.variant.options]
