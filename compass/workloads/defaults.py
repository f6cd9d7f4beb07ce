"""Optional members of a workload: read and checked, or their defaults."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from compass.errors import InputError
from compass.records import Batch, Family, Load
from compass.records.nouns import SAMPLES

if TYPE_CHECKING:
    from compass.workloads.protocol import Workload

KNOBS = ("layers", "channels")
COPIES = (2, 4, 8)
"""Copies of a sample in a micro-batch. One molecule or sentence takes little beside the weights; eight are still small."""
N_LOOKED_AT = 60
"""Number of samples among which micro-batches are chosen."""
FLAT = 1e-3
"""Distance from a plane, as a share of the largest sizes, below which a load counts as lying in it."""


def as_load(load: Load | Mapping[str, float], features: Sequence[str], padded: tuple[str, ...] = ()) -> Load:
    """`load` as a record, its sizes in the order of `features`, some of which may be `padded`.

    Raises:
        InputError: it does not have exactly these features.
    """
    sizes = dict(load.sizes) if isinstance(load, Load) else dict(load)
    if set(sizes) != set(features):
        raise InputError(
            "the workload's loads",
            got=f"one of {', '.join(map(repr, sizes)) or 'nothing'}",
            expected=f"its features, {', '.join(map(repr, features))}",
            fix="Give every load each feature once.",
        )
    graphs = load.graphs if isinstance(load, Load) else 1
    return Load(graphs=graphs, sizes=tuple((name, float(sizes[name])) for name in features), padded=padded)


def samples_of(workload: Workload) -> dict[str, Load]:
    """The load of each sample, by id.

    Raises:
        InputError: there are none, or their loads do not have the declared features.
    """
    samples = dict(workload.samples())
    if not samples:
        raise InputError("the workload's samples", got="none", expected="at least one", fix="Give `samples` data.")
    return {str(name): as_load(load, workload.features, padded_of(workload)) for name, load in samples.items()}


def padded_of(workload: Any) -> tuple[str, ...]:
    """The features that the workload declares as padded to the largest of a batch: none, one name, or several.

    Raises:
        InputError: one of them is no feature.
    """
    given = getattr(workload, "padded", ())
    names = (given,) if isinstance(given, str) else tuple(given)
    if not set(names) <= set(workload.features):
        raise InputError(
            "the workload's padded",
            got=repr(given),
            expected=f"features of it: {', '.join(map(repr, workload.features))}",
            fix="Name the sizes of which a batch holds the largest times the number of its samples.",
        )
    return names


def family_of(workload: object) -> Family:
    """The declared properties of the workload's models.

    Raises:
        InputError: the space is not plain data, `capacity` names no knob, or `noun` is no word.
    """
    space: Any = getattr(workload, "space", {})
    try:
        space = json.loads(json.dumps(dict(space)))
    except (TypeError, ValueError) as error:
        raise InputError(
            "the workload's space",
            got=str(error),
            expected="settings of `space` by name",
            fix="Use numbers, text, tuples and dictionaries only.",
        ) from error
    space.setdefault("options", {})  # those that settings have by default are ViSNet's
    capacity = tuple(getattr(workload, "capacity", KNOBS))
    if not set(capacity) <= {*KNOBS, *space["options"]}:
        raise InputError(
            "the workload's capacity",
            got=repr(capacity),
            expected="'layers', 'channels', options of its space, or () for a fixed model",
            fix="Name the knobs that make a model larger.",
        )
    if _is_built_in(workload) and capacity:
        space.setdefault("scaled", list(KNOBS))
    return Family(
        space=space,
        capacity=capacity,
        supports_checkpointing=_supports_checkpointing(workload),
        own_optimizer=getattr(workload, "optimizer", None) is not None,
        own_step=getattr(workload, "step", None) is not None,
        evaluates=bool(getattr(workload, "evaluates", True)),
        noun=_noun(workload),
        n_samples=getattr(workload, "n_samples", None),
        is_stream=bool(getattr(workload, "is_stream", False)),
        remarks=tuple(getattr(workload, "remarks", ())),
    )


def _is_built_in(workload: object) -> bool:
    """Whether the workload's class is one of Compass's own families."""
    own = getattr(workload, "_workload", workload)  # behind the adapter
    return type(own).__module__.startswith(f"{__package__}.")


def _noun(workload: object) -> str:
    """What the workload's data consist of; empty if these are complexes."""
    noun = getattr(workload, "noun", SAMPLES)
    if not isinstance(noun, str) or not re.fullmatch(r"([^\W\d_]+([ -][^\W\d_]+)*)?", noun):
        raise InputError(
            "the workload's noun",
            got=repr(noun),
            expected="a plural, such as 'images'",
            fix="Name what its samples are, in letters, or leave it out.",
        )
    return noun


def _supports_checkpointing(workload: object) -> bool:
    """Whether `build` honours `knobs.variant.checkpointing`, under the member's present name or that of 0.1.0."""
    if hasattr(workload, "recomputes"):  # written by the author, so it overrides a family's own member
        text = "a workload's member `recomputes` is now called `supports_checkpointing`; the old name works for one more release"
        warnings.warn(text, DeprecationWarning, stacklevel=3)
        return bool(workload.recomputes)
    return bool(getattr(workload, "supports_checkpointing", False))


def micro_batches(workload: Workload, samples: Mapping[str, Load]) -> tuple[Batch, ...]:
    """Small batches for calibration: the loads that the workload declares, or copies of small samples.

    There is one batch more than a plane in the features needs, so that leaving one out tests the plane.
    """
    declared = getattr(workload, "micro_loads", None)
    if declared is not None:
        return tuple(Batch(synthetic=as_load(load, workload.features)) for load in declared)
    return spread_batches(samples)


def spread_batches(samples: Mapping[str, Load]) -> tuple[Batch, ...]:
    """Batches of copies of one sample each, whose loads lie as far as possible from the planes through each other.

    The first is the smallest. Sizes are measured as shares of those of eight copies of a median sample, and batches larger
    than that are not used. Where members are padded, one of each batch is the next shorter sample, as in training, whose batches are of like
    length: a model may take another path, which holds less, where nothing is padded.
    """
    ordered = sorted(samples, key=lambda name: tuple(size for _, size in samples[name].sizes))
    shorter = _next_shorter(samples)
    ordered = [name for name in ordered if name in shorter] or ordered
    looked_at = [ordered[i] for i in sorted({*np.linspace(0, len(ordered) - 1, N_LOOKED_AT).round().astype(int)})]
    sizes = np.array([[size for _, size in samples[name].sizes] for name in looked_at])
    cap = np.maximum(max(COPIES) * np.median(sizes, axis=0), 1e-9)
    options = [(name, n, sizes[i] * n / cap) for i, name in enumerate(looked_at) for n in COPIES]
    options = [option for option in options if (option[2] <= 1 + 1e-9).all()] or options[:1]
    points = np.array([point for _, _, point in options])
    places = [int(points.sum(axis=1).argmin())]
    while len(places) <= points.shape[1]:  # a plane in F sizes takes F + 1 points
        apart = _out_of_plane(points, places)
        if apart.max() < FLAT:
            break
        places.append(int(apart.argmax()))
    spread = np.abs(points[:, None] - points[places][None]).max(axis=2).min(axis=1)
    if spread.max() > FLAT:
        places.append(int(spread.argmax()))
    chosen = [(name, n) for name, n, _ in (options[place] for place in places)]
    return tuple(
        Batch(members=((name, n - 1), (shorter[name], 1)) if name in shorter else ((name, n),)) for name, n in chosen
    )


def _next_shorter(samples: Mapping[str, Load]) -> dict[str, str]:
    """For each sample the next one below it in the sizes that are padded; empty where nothing is padded."""
    found: dict[str, str] = {}
    for shorter, name in pairwise(sorted(samples, key=lambda name: _padded_sizes(samples[name]))):
        is_shorter = _padded_sizes(samples[shorter]) != _padded_sizes(samples[name])
        below = shorter if is_shorter else found.get(shorter)
        if below is not None:
            found[name] = below
    return found


def _padded_sizes(load: Load) -> list[float]:
    return [size for name, size in load.sizes if name in load.padded]


def _out_of_plane(points: np.ndarray, places: list[int]) -> np.ndarray:
    """Distance (n,) of each of `points` (n, F) from the plane through those at `places`."""
    origin = points[places[0]]
    directions = (points[places[1:]] - origin).T
    rest = points - origin
    if directions.size:
        basis, _ = np.linalg.qr(directions)
        rest = rest - rest @ basis @ basis.T
    return np.asarray(np.linalg.norm(rest, axis=1))
