"""Step time of any configuration at any load: a form (`compass.cost.time_form`), and a process of what it misses.

The form's logarithm is the mean of a Gaussian process. A prediction may be wrong for two reasons. The form's unknowns are not
determined by the timings: their priors and gradients say by how much, and more so the further a configuration or a load lies from
all that was timed. And no form is right: neighbouring architectures miss alike, more so if their channels are aligned alike; one
part of what is missed belongs to a single configuration and one to its load. The spreads of those parts are fixed: a dozen timed
probes do not determine them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compass.cost.observation import Probe
from compass.cost.time_form import (
    MICRO_SPREAD,
    TimeForm,
    alignment,
    counted_parameters,
    fit_form,
    half_interval,
    has_timing,
    is_real,
    timed_sizes,
    timed_step_s,
)
from compass.records import Choice, Knobs, Variant

_Floats = NDArray[np.float64]

SMOOTH_SPREAD, OWN_SPREAD, LOAD_SPREAD = 0.02, 0.02, 0.03
"""Relative spreads of the residual: the part shared by neighbours, the part of one configuration, the part of one load."""
LENGTH = 0.7
"""Of the shared part, in log layers and log channels: a factor of two."""
UNLIKE = 0.5
"""Correlation between neighbours whose channels are aligned differently."""
NOISE_FLOOR = 0.007
"""Relative noise of a median that looks exact; the next run of the same probe differs by as much."""
PACE, PACE_CPU = 0.01, 0.02
"""Relative spread of an accelerator's pace from one process to another, and of a CPU's over minutes, the same for every program."""


@dataclass(frozen=True)
class _Process:
    """What the timings say of what a form misses, and of a form's unknowns: n timings, r of them on real samples."""

    knobs: tuple[Knobs, ...]
    """Of the r timings."""
    log_s: _Floats
    """(r,) the form's logarithms of their steps."""
    weights: _Floats
    """(r,) K⁻¹ · residual."""
    real: NDArray[np.bool_]
    """(n,) on real samples; the others tell of the form alone."""
    gradients: dict[tuple[Hashable, ...], _Floats]
    """(n, p) of the timings, by each form's unknowns; 0 for the timings of other forms."""
    inverse: _Floats
    """(n, n) of the covariance of all timings."""

    def residual(self, knobs: Knobs, log_s: _Floats) -> _Floats:
        """What the form misses (m,) of `knobs` at loads whose step's logarithm it puts at `log_s` (m,)."""
        return np.asarray(self._alike(knobs, log_s) @ self.weights, dtype=np.float64)

    def variance(self, knobs: Knobs, log_s: _Floats, form: TimeForm, gradient: _Floats) -> float:
        """Of the logarithm predicted for `knobs` at one load, (1,), whose gradient is (1, p)."""
        priors = form.spreads**2
        cross = (gradient * priors) @ self.gradients[form.key].T
        cross[:, self.real] += self._alike(knobs, log_s)
        prior = float((gradient**2 @ priors)[0]) + SMOOTH_SPREAD**2 + OWN_SPREAD**2 + LOAD_SPREAD**2
        return prior - float(np.squeeze(cross @ self.inverse @ cross.T))

    def covariance(
        self, knobs: Sequence[Knobs], log_s: _Floats, forms: Sequence[TimeForm], gradients: Sequence[_Floats]
    ) -> _Floats:
        """(m, m) of the logarithms predicted for m configurations at one load each, (m,), with their forms and gradients (p,)."""
        found = residual_covariance(knobs, log_s, knobs, log_s)
        cross = np.zeros((len(knobs), len(self.real)))
        cross[:, self.real] = residual_covariance(knobs, log_s, self.knobs, self.log_s)
        for form in {form.key: form for form in forms}.values():
            mine = np.flatnonzero([other.key == form.key for other in forms])
            rows = np.array([row for row, other in zip(gradients, forms, strict=True) if other.key == form.key])
            found[np.ix_(mine, mine)] += (rows * form.spreads**2) @ rows.T
            cross[mine] += (rows * form.spreads**2) @ self.gradients[form.key].T
        return np.asarray(found - cross @ self.inverse @ cross.T, dtype=np.float64)

    def _alike(self, knobs: Knobs, log_s: _Floats) -> _Floats:
        """(m, r) covariances with the residuals of the timings."""
        return residual_covariance([knobs], log_s, self.knobs, self.log_s)


@dataclass(frozen=True)
class TimeModel:
    """The fitted means, and the process of what they miss."""

    forms: dict[tuple[Hashable, ...], TimeForm]
    """By `Variant.time_key`."""
    process: _Process | None
    """None: nothing was timed on real samples."""
    unrest: float = 0.0
    """The machine's noise: the relative half interval of the median probe, and the pace. Every repeated measurement includes it."""
    misfits: dict[Variant, float] = field(default_factory=dict)
    """By variant, the largest share by which a timing on real samples differs from the form."""

    def knows(self, variant: Variant) -> bool:
        """Whether a form was fitted that predicts steps of `variant`."""
        return variant.time_key in self.forms

    def form_of(self, variant: Variant) -> TimeForm:
        """The mean of `variant`. Raises KeyError if no step of its form was timed."""
        return self.forms[variant.time_key]

    def step_s(self, knobs: Knobs, capacity: int, sizes: _Floats) -> _Floats:
        """Predicted seconds of a step (n,) at `sizes` (n, features). Raises KeyError if no step of its form was timed."""
        log_s, _ = self.form_of(knobs.variant).log_step(knobs, capacity, sizes)
        missed = 0.0 if self.process is None else self.process.residual(knobs, log_s)
        return np.asarray(np.exp(log_s + missed), dtype=np.float64)

    def step_of(self, probe: Probe, features: tuple[str, ...]) -> float:
        """Predicted seconds of the step that `probe` timed."""
        return float(self.step_s(probe.spec.knobs, counted_parameters(probe), timed_sizes(features, probe))[0])

    def spread(self, knobs: Knobs, capacity: int, sizes: _Floats) -> float:
        """Relative standard deviation of the prediction for `knobs` at one load of `sizes` (1, features)."""
        form = self.form_of(knobs.variant)
        log_s, gradient = form.log_step(knobs, capacity, sizes)
        if self.process is None:
            return float(
                np.sqrt(SMOOTH_SPREAD**2 + OWN_SPREAD**2 + LOAD_SPREAD**2 + (gradient**2 @ form.spreads**2)[0])
            )
        return float(np.sqrt(max(NOISE_FLOOR**2, self.process.variance(knobs, log_s, form, gradient))))

    def covariance(self, choices: Sequence[Choice]) -> _Floats:
        """(n, n) of the logarithms of the steps predicted for `choices` at their loads: what one shows of the others."""
        forms = [self.form_of(choice.knobs.variant) for choice in choices]
        looked_at = [
            form.log_step(choice.knobs, choice.capacity, np.array([[size for _, size in choice.load.sizes]]))
            for form, choice in zip(forms, choices, strict=True)
        ]
        log_s, gradients = np.array([found[0] for found, _ in looked_at]), [rows[0] for _, rows in looked_at]
        knobs = [choice.knobs for choice in choices]
        return (self.process or _nothing_timed(self.forms)).covariance(knobs, log_s, forms, gradients)

    def spread_of_runs(self, knobs: Knobs, capacity: int, sizes: _Floats) -> float:
        """The same for the measurement of a run, which includes the machine's noise. No probe can reduce that part."""
        return float(np.hypot(self.spread(knobs, capacity, sizes), self.unrest))

    def is_timed(self, knobs: Knobs) -> bool:
        """Whether `knobs` themselves were timed."""
        return self.process is not None and knobs in self.process.knobs


def fit_time(features: tuple[str, ...], probes: Iterable[Probe], *, overlapping: bool = True) -> TimeModel:
    """Fit the form to every timed probe in `probes`, and the process to those on real samples.

    `overlapping` says whether work overlaps with launching. On a CPU it does not.
    """
    # Sorted by key: a search for the best parameters that ends early would end elsewhere in another order.
    timed = sorted((probe for probe in probes if has_timing(probe)), key=lambda probe: probe.spec.key)
    groups: dict[tuple[Hashable, ...], list[Probe]] = {}
    for probe in timed:
        groups.setdefault(probe.spec.knobs.variant.time_key, []).append(probe)
    forms = {key: fit_form(features, key, group, overlapping=overlapping) for key, group in groups.items()}
    telling = [probe for probe in timed if is_real(probe)]
    if not telling:
        return TimeModel(forms, None)
    pace = PACE if overlapping else PACE_CPU  # of the few seconds that a timing takes
    unrest = float(np.hypot(np.median([half_interval(p) for p in telling]), pace))
    process = _process(features, forms, timed, pace=pace)
    return TimeModel(forms, process, unrest, _misfits(telling, process))


def _nothing_timed(forms: dict[tuple[Hashable, ...], TimeForm]) -> _Process:
    """The process of no timings, which leaves the priors as they are."""
    none = np.zeros(0)
    gradients = {key: np.zeros((0, len(form.vector))) for key, form in forms.items()}
    return _Process((), none, none, np.zeros(0, dtype=np.bool_), gradients, np.zeros((0, 0)))


def _misfits(telling: Sequence[Probe], process: _Process) -> dict[Variant, float]:
    """By variant, of the probes on real samples."""
    found: dict[Variant, float] = {}
    for probe, log_s in zip(telling, process.log_s, strict=True):
        off = abs(float(np.exp(np.log(timed_step_s(probe)) - log_s)) - 1)
        found[probe.spec.knobs.variant] = max(off, found.get(probe.spec.knobs.variant, 0.0))
    return found


def _process(
    features: tuple[str, ...], forms: dict[tuple[Hashable, ...], TimeForm], timed: Sequence[Probe], *, pace: float
) -> _Process:
    """The process of the `timed` probes, of which one at least is on real samples."""
    log_s, gradients = (
        np.zeros(len(timed)),
        {key: np.zeros((len(timed), len(form.vector))) for key, form in forms.items()},
    )
    for place, probe in enumerate(timed):
        form = forms[probe.spec.knobs.variant.time_key]
        found, gradient = form.log_step(probe.spec.knobs, counted_parameters(probe), timed_sizes(features, probe))
        log_s[place], gradients[form.key][place] = found[0], gradient[0]
    missed = np.log([timed_step_s(probe) for probe in timed]) - log_s
    real = np.array([is_real(probe) for probe in timed])
    knobs = [probe.spec.knobs for probe in timed if is_real(probe)]
    noise = np.array([max(NOISE_FLOOR, half_interval(p) / 2) ** 2 + pace**2 for p in timed])
    noise[~real] = MICRO_SPREAD**2 * np.sqrt(1 + (missed[~real] / MICRO_SPREAD) ** 2)
    alike = residual_covariance(knobs, log_s[real], knobs, log_s[real])
    covariance = np.diag(noise)
    covariance[np.ix_(real, real)] += alike
    for key, gradient in gradients.items():
        covariance += (gradient * forms[key].spreads ** 2) @ gradient.T
    weights = np.linalg.solve(alike + np.diag(noise[real]), missed[real])
    return _Process(tuple(knobs), log_s[real], weights, real, gradients, np.linalg.inv(covariance))


def residual_covariance(
    some: Sequence[Knobs], some_log_s: _Floats, others: Sequence[Knobs], others_log_s: _Floats
) -> _Floats:
    """(n, m) covariances of what the form misses of `some` configurations and `others`, at loads with these logarithms of the step.

    One of `some` may stand for all n loads.
    """
    places, aligned = _places_of(some), np.array([alignment(knobs) for knobs in some])
    other_places, other_aligned = _places_of(others), np.array([alignment(knobs) for knobs in others])
    apart = ((places[:, None, :] - other_places[None, :, :]) ** 2).sum(axis=-1)
    alike = np.where(aligned[:, None] == other_aligned[None, :], 1.0, UNLIKE)
    number = {knobs: place for place, knobs in enumerate(dict.fromkeys([*some, *others]))}
    numbers, other_numbers = (np.array([number[knobs] for knobs in models]) for models in (some, others))
    own = (numbers[:, None] == other_numbers[None, :]).astype(np.float64)
    loads = np.exp(-0.5 * (some_log_s[:, None] - others_log_s[None, :]) ** 2)
    shared = SMOOTH_SPREAD**2 * alike * np.exp(-0.5 * apart / LENGTH**2)
    return np.asarray(shared + own * (OWN_SPREAD**2 + LOAD_SPREAD**2 * loads), dtype=np.float64)


def _places_of(models: Sequence[Knobs]) -> _Floats:
    """(n, 2) log layers, log channels."""
    places = np.array([[float(knobs.layers), float(knobs.channels)] for knobs in models]).reshape(-1, 2)
    return np.asarray(np.log(places), dtype=np.float64)
