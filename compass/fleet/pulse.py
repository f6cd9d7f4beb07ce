"""The pulse: the same second of steps on every place of a kind. It shows a node that is slower than its like."""

from __future__ import annotations

import logging
import statistics
from dataclasses import replace

from compass.fleet.engine import NodeLostError
from compass.fleet.head import Head
from compass.fleet.kinds import NodeKind, Place
from compass.planning.request import Request
from compass.planning.session import first_settings, wanted_variants
from compass.probe.requests import synthetic_batches, timing_probe
from compass.records import Knobs, ProbeSpec
from compass.search.family import follow

log = logging.getLogger(__name__)

SLOW = 1.25
"""A place is slow if its step takes this many times the median of its kind: beyond noise and a cool card's boost."""


def pulse_spec(request: Request, place: Place) -> ProbeSpec:
    """Steps of a small model on the largest of the calibration's small batches."""
    config, family = follow(request.config, place.description.family), place.description.family
    variant = min(wanted_variants(config), key=lambda one: one.departures)
    layers, channels = config.probe.anchor_architectures_cpu[0]
    knobs = Knobs(layers=layers, channels=channels, variant=variant) if family.capacity else Knobs.fixed(variant)
    batch = (place.description.micro_batches or synthetic_batches(config.probe))[-1]
    return timing_probe(config.probe, knobs, batch, first_settings(request.config, host=place.host), on_cpu=True)


def without_slow_first(kind: NodeKind, head: Head) -> tuple[NodeKind, tuple[str, ...]]:
    """`kind` with its slow and its lost places last, and a sentence on each slow one. A place without others has no pulse."""
    if len(kind.places) == 1:
        return kind, ()
    pulses = {place.name: _pulse(head, place) for place in kind.places}
    step_s = {name: taken for name, taken in pulses.items() if isinstance(taken, float)}
    median_s = statistics.median_low(step_s.values()) if step_s else 0.0
    slow = {name: taken / median_s for name, taken in step_s.items() if taken > SLOW * median_s}
    notes = tuple(
        f"{name} is slow: its step takes {factor:.2f} times the median of {kind.name}" for name, factor in slow.items()
    )
    for note in notes:
        log.warning("%s", note)
    notes += tuple(f"{name} {why}" for name, why in pulses.items() if isinstance(why, str))
    places = sorted(kind.places, key=lambda place: (place.name not in step_s, place.name in slow))
    return replace(kind, places=tuple(places)), notes


def _pulse(head: Head, place: Place) -> float | str:
    """Seconds of a step, or why there is none: the place was lost, or did not run it."""
    spec = pulse_spec(head.request, place)
    try:
        outcome = head.probe(place.node, place.device, spec.runtime, spec)
        head.close(place.node, place.device)
    except NodeLostError as error:
        return f"was lost in its pulse: {error}"
    if outcome.step is None:
        log.warning("%s: the pulse did not run: %s", place.name, outcome.summary)
        return f"did not run its pulse: {outcome.summary}"
    return outcome.step.median_s
