"""The words for a workload's data: a dataset of complexes in batches of graphs, or the workload's own noun for both.

A noun is a plural such as `images`; an empty one stands for complexes and graphs.
"""

from __future__ import annotations

import re

SAMPLES = "samples"
"""The noun of a workload of one's own that declares none."""
_ENDINGS = ((r"(?<=ch|sh|ss)es$", ""), (r"(?<=x)es$", ""), (r"ies$", "y"), (r"(?<!s)s$", ""))
"""Endings of plurals, and what the singular has in their place; the first that fits counts."""


def of_data(noun: str) -> str:
    """The plural for what a dataset consists of."""
    return noun or "complexes"


def of_batch(noun: str) -> str:
    """The plural for what a batch consists of."""
    return noun or "graphs"


def singular(plural: str) -> str:
    """One of `plural`, e.g. `graph`, `batch`; a plural without an `s` stays as it is."""
    for ending, instead in _ENDINGS:
        found = re.sub(ending, instead, plural)
        if found != plural:
            return found
    return plural


def counted(count: float, plural: str) -> str:
    """A whole number with its noun, e.g. `1 graph`, `1,200 graphs`."""
    whole = round(count)  # a number of 400 digits, as a damaged file may have, is no float
    return f"{whole:,} {singular(plural) if whole == 1 else plural}"
