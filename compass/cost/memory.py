"""Live bytes of any configuration at any load, from a dozen micro-probes.

Notation: L layers, C channels, s the sizes of a load (for ViSNet N nodes and E edges).

The peak of a training step lies in one of a few segments (see compass.probe.segments). Within a segment, all memory was
allocated by code that runs once, or once for each layer, on tensors with a fixed number of elements for each node, edge or weight:

    bytes = Σ_s s · (a_s + b_s·C + c_s·L + d_s·L·C)  +  e + f·C + g·C² + h·L + i·L·C + j·L·C²

This is exact as long as the code takes the same path. The peak is the maximum over the segments. A single form for the peak
itself is wrong by up to 5 %, because the peak moves from one segment to another.

Some models hold a matrix for every node or edge (a tensor product contracted with its weights first): s · (… + k_s·C² + l_s·L·C²).
In others the weights grow with another power of the channels (in NequIP the cube): … + m·P, with P the parameters, which are counted.
Such a form is used where leave-one-out errors show the usual one wrong and this one right.

Where no form holds, as where a library's workspace grows in steps of the width, a model that was probed itself is known better than
its variant: what its segments exceeded the law by is added to them, and its margin is that of the loads, not of other models.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compass.cost.observation import Probe
from compass.records import Affine, BytesLaw, Knobs, Load, Scalar, Variant

_Floats = NDArray[np.float64]
HOLDS = 0.005
"""Leave-one-out errors up to this share do not cast doubt on the usual form."""
LARGE_PEAK_SHARE = 0.25
"""Probes of at least this share of the largest peak show whether an error grows with the load."""
AMPLIFIED = 3.0
"""A left-out probe is not judged if its prediction would amplify the other probes' errors by more than this factor."""
DETERMINED = 1e-6
_CLEARLY = 0.5
"""The wider form is used if its largest error is under this share of the usual form's."""
MIN_BLOCKS = {"early": 3, "late": 3, "inner": 3, "first": 2}
"""Layers a model needs for the segment of that layer to exist."""


class Form(NamedTuple):
    """The terms of a law beside the usual ones."""

    wide: bool = False
    """A square of the channels for every size."""
    counted: bool = False
    """The parameters."""


USUAL_FORM = Form()
RICHER = (Form(wide=True), Form(counted=True), Form(wide=True, counted=True))
"""Tried in this order where the usual form does not hold."""
Shape = tuple[int, int, tuple[tuple[str, Scalar], ...]]
"""What a model's parameters depend on: layers, channels, options."""


def shape_of(knobs: Knobs) -> Shape:
    """The shape of `knobs`."""
    return (knobs.layers, knobs.channels, knobs.variant.options)


@dataclass(frozen=True)
class MemoryModel:
    """The fitted coefficients of every segment of every variant."""

    features: tuple[str, ...]
    coefficients: dict[Variant, dict[str, _Floats]]
    margins: dict[Variant, float] = field(default_factory=dict)
    """One-sided share by which the truth may exceed the prediction."""
    margins_bytes: dict[Variant, float] = field(default_factory=dict)
    """Bytes by which it may do so in addition, whatever the load, as where a workspace grows in steps."""
    misfits: dict[Variant, float] = field(default_factory=dict)
    """Largest share by which a probe differs from the prediction of the other probes."""
    forms: dict[Variant, Form] = field(default_factory=dict)
    """The terms beside the usual ones."""
    parameters: Mapping[Shape, int] = field(default_factory=dict)
    """Counted parameters of models."""
    offsets: dict[Knobs, dict[str, float]] = field(default_factory=dict)
    """Bytes by which each segment of a probed model exceeded the law, where no form holds for its variant. By knobs `of_memory`."""
    own_margins: dict[Variant, tuple[float, float]] = field(default_factory=dict)
    """The margin, share and bytes, of models that were probed themselves, where no form holds for their variant."""
    shallowest: dict[Variant, dict[str, int]] = field(default_factory=dict)
    """Fewest layers that a segment was seen with; a family whose layers are split in halves has every segment with fewer layers."""

    def knows(self, variant: Variant) -> bool:
        """Whether memory laws of `variant` were fitted."""
        return variant.of_memory in self.coefficients

    def observed(self, knobs: Knobs) -> bool:
        """Whether the law of `knobs` needs no probe of theirs: a form holds for their variant, or they were probed."""
        return knobs.variant.of_memory not in self.own_margins or _of_memory(knobs) in self.offsets

    def margin(self, knobs: Knobs) -> tuple[float, float]:
        """The share and the bytes by which the truth may exceed the prediction of `knobs`."""
        variant = knobs.variant.of_memory
        if _of_memory(knobs) in self.offsets:
            return self.own_margins[variant]
        return self.margins.get(variant, 0.0), self.margins_bytes.get(variant, 0.0)

    def hopeful(self) -> MemoryModel:
        """The same with the margins that models would have if they were probed: what one probe may show to fit."""
        shares = {variant: share for variant, (share, _) in self.own_margins.items()}
        n_bytes = {variant: extra for variant, (_, extra) in self.own_margins.items()}
        return replace(self, margins={**self.margins, **shares}, margins_bytes={**self.margins_bytes, **n_bytes})

    def law(self, knobs: Knobs) -> BytesLaw:
        """The affine law of live bytes for `knobs`; footprint fields are left at their neutral values.

        Raises:
            KeyError: the variant was never probed, or its weights grow with the parameters of a model that was not counted.
        """
        variant = knobs.variant.of_memory
        form = self.forms.get(variant, USUAL_FORM)
        shape = _unit_row(knobs, form)
        fixed = _fixed_row(knobs, self.parameters[shape_of(knobs)] if form.counted else None)
        n_unit = len(shape)
        pieces = []
        for segment, w in self.coefficients[variant].items():
            seen_from = self.shallowest.get(variant, {}).get(segment, sys.maxsize)
            block = segment.rpartition(":")[2].partition(".")[0]
            if knobs.layers < min(seen_from, MIN_BLOCKS.get(block, 0)):
                continue
            rates = [float(shape @ w[i * n_unit : (i + 1) * n_unit]) for i in range(len(self.features))]
            base = float(fixed @ w[len(self.features) * n_unit :])
            base += self.offsets.get(_of_memory(knobs), {}).get(segment, 0.0)
            per_unit = tuple(zip(self.features, rates, strict=True))
            pieces.append((segment, Affine(base=base, per_unit=per_unit)))
        return BytesLaw(segments=tuple(pieces), margin_share=self.margin(knobs)[0])


def fit_memory(
    features: tuple[str, ...],
    probes: Iterable[Probe],
    *,
    margin_floor: float,
    parameters: Mapping[Shape, int] = MappingProxyType({}),
) -> MemoryModel:
    """Fit the segments' peaks in `probes`; those without segments are passed over.

    The margin is twice what a probe exceeded the prediction of the others by, and at least the share `margin_floor`. A probe is left
    out only where the others still determine the fit. `parameters` are the counts of models that are not among the probes.
    """
    by_variant: dict[Variant, list[Probe]] = {}
    counted = dict(parameters)
    for probe in probes:
        if probe.outcome.ok and probe.outcome.segments:
            by_variant.setdefault(probe.spec.knobs.variant.of_memory, []).append(probe)
            counted[shape_of(probe.spec.knobs)] = probe.outcome.parameters or 0
    coefficients, margins, margins_bytes, misfits, forms = {}, {}, {}, {}, {}
    by_variant = {variant: _without_exceptions(features, group) for variant, group in by_variant.items()}
    for variant, group in by_variant.items():
        forms[variant], errors, peaks = _form(features, group)
        coefficients[variant] = _fit_segments(features, group, forms[variant])
        share, margins_bytes[variant] = _margins(errors, peaks, largest=max(map(_peak, group)))
        margins[variant] = max(margin_floor, share)
        misfits[variant] = float(np.abs(errors).max(initial=0.0))
    shallowest = {variant: _shallowest(group) for variant, group in by_variant.items()}
    offsets: dict[Knobs, dict[str, float]] = {}
    own_margins: dict[Variant, tuple[float, float]] = {}
    for variant, group in by_variant.items():
        if misfits[variant] <= HOLDS:
            continue
        errors, peaks = _left_out(features, group, forms[variant], own=True)
        largest = max(map(_peak, group))
        share, n_bytes = _margins(errors, peaks, largest=largest)
        if len(errors) and share * largest + n_bytes < margins[variant] * largest + margins_bytes[variant]:
            own_margins[variant] = max(margin_floor, share), n_bytes
            offsets |= _offsets(features, group, forms[variant], coefficients[variant])
    return MemoryModel(
        features, coefficients, margins, margins_bytes, misfits, forms, counted, offsets, own_margins, shallowest
    )


def _of_memory(knobs: Knobs) -> Knobs:
    return knobs.model_copy(update={"variant": knobs.variant.of_memory})


def _offsets(
    features: tuple[str, ...], probes: Sequence[Probe], form: Form, coefficients: Mapping[str, _Floats]
) -> dict[Knobs, dict[str, float]]:
    """The most by which each segment of each probed model exceeded the law of these coefficients."""
    found: dict[Knobs, dict[str, float]] = {}
    for probe, row in zip(probes, _rows(features, probes, form), strict=True):
        mine = found.setdefault(_of_memory(probe.spec.knobs), {})
        for segment, n_bytes in probe.outcome.segments:
            excess = n_bytes - float(row @ coefficients[segment])
            mine[segment] = max(excess, mine.get(segment, excess))
    return found


def _without_exceptions(features: tuple[str, ...], probes: list[Probe]) -> list[Probe]:
    """`probes` of one architecture without the smallest loads, if only these break the law.

    A batch of one image runs through other kernels than two or more: ResNet-18 then lacks the workspace of all larger batches.
    """
    if len({(p.spec.knobs.layers, p.spec.knobs.channels) for p in probes}) > 1:
        return probes
    ordered = sorted(probes, key=_peak)
    fewest = len(features) + 2  # one more than the law has terms
    worst = np.abs(_left_out(features, ordered, USUAL_FORM)[0]).max(initial=0.0)
    for n_small in range(1, len(ordered) - fewest + 1):
        if worst <= HOLDS:
            break
        errors = np.abs(_left_out(features, ordered[n_small:], USUAL_FORM)[0])
        if len(errors) and errors.max() < _CLEARLY * worst:
            return ordered[n_small:]
    return probes


def _peak(probe: Probe) -> float:
    return float(max(n_bytes for _, n_bytes in probe.outcome.segments))


def _margins(errors: _Floats, peaks: _Floats, *, largest: float) -> tuple[float, float]:
    """The share and the bytes of the margin: twice what the `errors` (k,) of probes with these `peaks` (k,) ask for.

    The errors of large probes are a share of the load. What those of small ones exceed it by is an amount of bytes: as a share,
    a workspace of 100 MiB would be five times a small probe. Without a large probe, all errors are a share.
    """
    predicted = peaks / (1 + errors)
    large = errors[peaks >= LARGE_PEAK_SHARE * largest]
    share = float((large if len(large) else errors).max(initial=0.0))
    return 2 * share, 2 * float(((errors - share) * predicted).max(initial=0.0))


def _form(features: tuple[str, ...], probes: Sequence[Probe]) -> tuple[Form, _Floats, _Floats]:
    """The form to use, and its leave-one-out errors beside the probes' peaks: the first that is clearly better than the usual one."""
    errors, peaks = _left_out(features, probes, USUAL_FORM)
    worst = np.abs(errors).max(initial=0.0)
    if worst > HOLDS:
        known = all(probe.outcome.parameters for probe in probes)
        for form in (form for form in RICHER if known or not form.counted):
            richer, its_peaks = _left_out(features, probes, form)
            if len(richer) and np.abs(richer).max() < _CLEARLY * worst:
                return form, richer, its_peaks
    return USUAL_FORM, errors, peaks


def _shallowest(probes: Sequence[Probe]) -> dict[str, int]:
    found: dict[str, int] = {}
    for spec, outcome in probes:
        for name, _ in outcome.segments:
            found[name] = min(spec.knobs.layers, found.get(name, spec.knobs.layers))
    return found


def _fit_segments(features: tuple[str, ...], probes: Sequence[Probe], form: Form) -> dict[str, _Floats]:
    rows = _rows(features, probes, form)
    return {name: _solve(rows[seen], n_bytes[seen]) for name, n_bytes, seen in _by_segment(probes)}


def _by_segment(probes: Sequence[Probe]) -> list[tuple[str, _Floats, NDArray[np.bool_]]]:
    """Every segment with its bytes (n,) in `probes`, and a mask (n,) of the probes that have it."""
    found = [dict(p.outcome.segments) for p in probes]
    names = dict.fromkeys(name for segments in found for name in segments)
    return [
        (name, np.array([float(segments.get(name, 0)) for segments in found]), np.array([name in s for s in found]))
        for name in names
    ]


def _solve(rows: _Floats, n_bytes: _Floats) -> _Floats:
    """Least squares of the relative error. Columns are scaled, so that the minimum-norm solution weighs terms alike."""
    weighted = rows / n_bytes[:, None]
    scale = np.abs(weighted).max(axis=0)
    scale[scale == 0] = 1.0
    solution, *_ = np.linalg.lstsq(weighted / scale, np.ones(len(rows)), rcond=1e-12)
    return np.asarray(solution / scale, dtype=np.float64)


def _left_out(
    features: tuple[str, ...], probes: Sequence[Probe], form: Form, *, own: bool = False
) -> tuple[_Floats, _Floats]:
    """(k,) relative excesses of probes over the prediction of the others, and their peaks, for the k that the others determine well.

    With `own`, of the k whose model has other probes too: what those exceeded the prediction by is added to it. Empty where `probes`
    do not determine the wider form.
    """
    rows, segments = _rows(features, probes, form), _by_segment(probes)
    if form.wide and _rank(rows) < _attainable(features, probes):
        return np.zeros(0), np.zeros(0)
    peaks = np.array([_peak(p) for p in probes])
    relative = rows / peaks[:, None]
    models = [_of_memory(p.spec.knobs) for p in probes]
    errors, judged = [], []
    for index in range(len(probes)):
        others = np.arange(len(probes)) != index
        kin = others & np.array([model == models[index] for model in models])
        if (own and not kin.any()) or (not own and _amplified(relative[others], relative[index]) > AMPLIFIED):
            continue
        predicted = []
        for _, n_bytes, seen in segments:
            if not (seen[index] and (seen & others).any()):
                continue
            w = _solve(rows[seen & others], n_bytes[seen & others])
            excess = (n_bytes - rows @ w)[seen & kin] if own else np.zeros(0)
            predicted.append(float(rows[index] @ w) + float(excess.max(initial=-np.inf) if len(excess) else 0.0))
        errors.append(peaks[index] / max(predicted, default=peaks[index]) - 1.0)
        judged.append(peaks[index])
    return np.array(errors), np.array(judged)


def _attainable(features: tuple[str, ...], probes: Sequence[Probe]) -> int:
    """The rank of the wider form's rows in a full design: 1, C, C² for up to two depths, times the rank of the loads."""
    n_depths = min(2, len({p.spec.knobs.layers for p in probes}))
    loads = np.array([[1.0, *(_load(p)[name] for name in features)] for p in probes])
    return n_depths * 3 * _rank(loads)


def _rank(rows: _Floats) -> int:
    return int(np.linalg.matrix_rank(rows / np.abs(rows).max(axis=0).clip(min=1e-30)))


def _amplified(rows: _Floats, row: _Floats) -> float:
    """The factor by which a prediction at `row` (m,) from `rows` (n, m) amplifies their errors; infinite if it is undetermined."""
    scale = np.abs(rows).max(axis=0, initial=1e-30)
    weights, *_ = np.linalg.lstsq((rows / scale).T, row / scale, rcond=1e-9)
    rest = (rows / scale).T @ weights - row / scale
    return float(np.linalg.norm(weights)) if np.abs(rest).max() < DETERMINED else float("inf")


def _load(probe: Probe) -> Load:
    load = probe.outcome.load
    if load is None:
        raise ValueError(f"probe {probe.spec.key}: an outcome with segments has no load")
    return load


def _rows(features: tuple[str, ...], probes: Sequence[Probe], form: Form) -> _Floats:
    """(n, coefficients) of `probes`."""
    units = np.array([_unit_row(p.spec.knobs, form) for p in probes])
    counts = [p.outcome.parameters or 0 if form.counted else None for p in probes]
    fixed = np.array([_fixed_row(p.spec.knobs, count) for p, count in zip(probes, counts, strict=True)])
    sizes = np.array([[_load(p)[name] for name in features] for p in probes])
    return np.concatenate([(sizes[:, :, None] * units[:, None, :]).reshape(len(probes), -1), fixed], axis=1)


def _unit_row(knobs: Knobs, form: Form) -> _Floats:
    """Terms of the memory of one node or edge: 1, C, L, L·C; in the wider form also C², L·C²."""
    depth, width = float(knobs.layers), float(knobs.channels)
    squares = [width**2, depth * width**2] if form.wide else []
    return np.array([1.0, width, depth, depth * width, *squares])


def _fixed_row(knobs: Knobs, parameters: int | None) -> _Floats:
    """Terms of what does not depend on the load: 1, C, C², L, L·C, L·C²; and the `parameters`, if the form has them."""
    depth, width = float(knobs.layers), float(knobs.channels)
    counted = [] if parameters is None else [float(parameters)]
    return np.array([1.0, width, width**2, depth, depth * width, depth * width**2, *counted])
