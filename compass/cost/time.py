"""Step time of any configuration at any load.

Notation: L layers, C channels, s the sizes of a load, P parameters.

    step  = (floor^p + work^p)^(1/p)
    floor = (f₀ + f₁·L) · κ                                launching kernels of any size
    work  = ((outer + (L−1 + λ·(L−½)) · layer) · (1 + δ(C)))^γ
    outer = Σ_s s·(a_s + b_s·C) + g·P                      stem, head and last layer; the optimizer
    layer = Σ_s s·(c_s + d_s·C + e_s·C²)                   one of the other layers

Where the device outruns the host (a GPU on small graphs), a step takes as long as launching it; otherwise it takes as long as the
work; p says how sharply one takes over from the other. The last layer is cheaper than the others (ViSNet's updates no edges), so
it counts with the stem and the head. Distances, bases and messages of a fixed width cost the same for any number of channels,
element-wise work grows with s·C, matrix products with s·C². Activation checkpointing multiplies the floor (κ) and adds a share λ
of every layer, and half of it for the last layer, which may cost as much as the others or nearly nothing. Channels that are not a
multiple of 64 waste a share δ of an accelerator's tiles, drawn towards zero; a CPU has no tiles so wide. Larger batches fit caches
less well, so work grows a little faster than its size: γ ≥ 1, seconds to the power γ. All parameters are positive and fitted in log
time. Axes with a time model of their own (precision) have a form each; within a form, κ and λ belong to the variant.

A Gaussian process models the log residual of this form. Neighbouring architectures are correlated, more so if their channels are
aligned alike; one part belongs to a single configuration and one to its load. The hyperparameters are fixed: a dozen timed probes
do not determine them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compass.cost.observation import Probe
from compass.records import Knobs, Variant

_Floats = NDArray[np.float64]

SMOOTH_SPREAD, OWN_SPREAD, LOAD_SPREAD = 0.03, 0.02, 0.015
"""Relative spreads of the residual: the part shared by neighbours, the part of one configuration, the part of one load."""
STRAY, STRAY_LOAD = 0.3, 0.2
"""Relative spread of the mean for every e-fold in layers and channels beyond `LENGTH` from the nearest timed configuration, and for
every e-fold in time beyond it from the nearest timed load."""
LENGTH = 0.7
"""Of the shared part, in log layers and log channels: a factor of two."""
UNLIKE = 0.5
"""Correlation between neighbours whose channels are aligned differently."""
NOISE_FLOOR = 0.007
"""Relative noise of a median that looks exact; the next run of the same probe differs by as much."""
MICRO_WEIGHT = 0.05
"""Weight of a synthetic micro-probe, timed over one or two steps in another memory layout, against a timing on real samples. At 0.3 the
error of architectures never timed was half as large again; MACE's compiled parts take three times as long in their first steps."""
STRAY_SCALE = 0.01
"""Weighted misfit beyond which it counts linearly and no longer squared, so that one slow probe does not move all other
predictions."""
NOISY = 0.05
"""A timing whose half interval is this share of its median counts for half."""
UNSEEN_FACTORS = (4 / 3, 1 / 3)
"""κ and λ of activation checkpointing before it was timed: one more forward pass, a third of a step."""
UNSEEN_LAUNCHES = 2.0
"""κ of activation checkpointing where work overlaps with launching: the host hooks every tensor that is not kept. On an H100 and an H200 it was 1.9 to 2.0."""
SLOWEST_UPDATE_S = 5e-10
"""Seconds to update one parameter on an accelerator: AdamW moves 40 bytes, at 80 GB/s or more. A few anchors do not separate
updates from launches: without this limit a wide model's update was fitted ten times too slow."""
LAST_LAYER = 0.5
"""The share of a layer that checkpointing does not repeat in the last one: SchNet repeats all of it, ViSNet nearly nothing."""
PRIOR_WEIGHT = 0.02
"""Weight of the usual values of δ, κ, λ and γ, against a timing."""
ALIGNED_SPREAD, FACTOR_SPREAD = 0.1, 0.2
"""Spreads of δ around 0, and of κ and λ around their usual values, before anything was timed."""
LEAST_FACTOR = 0.5
"""κ of an axis that makes launching cheaper, at least."""
GROWTH_SPREAD = 0.05
"""Of γ above 1 before anything was timed; on two cores 1.04 was seen."""
PACE = 0.02
"""Relative spread of a CPU's pace over minutes, the same for every program."""
LAUNCH, UPDATE = slice(2), 2
"""Places of the terms 1 and L, and of P, among a form's terms."""
OVERLAPPING = 2.0
"""p where work overlaps with launching. On an H200 it fits fifty timings best; a few anchors do not determine it."""


@dataclass(frozen=True)
class TimeForm:
    """The fitted mean of the variants with one `time_key`: parameters of the formula above."""

    features: tuple[str, ...]
    coefficients: _Floats
    """f₀, f₁; g; for every size a, b; for every size c, d, e."""
    aligned: _Floats
    """δ for channels that are multiples of 32 only, and of 16 only."""
    factors: dict[Variant, tuple[float, float]]
    """κ and λ of each variant."""
    power: float
    growth: float = 1.0
    """γ"""
    at_ends: int = 1
    """Layers whose work counts with the stem and the head; 0 where no model has more than one layer."""

    def step_s(self, knobs: Knobs, capacity: int, sizes: _Floats) -> _Floats:
        """Seconds (n,) at `sizes` (n, features)."""
        return self.of_terms(_terms(knobs, capacity, sizes), _misaligned(knobs), *self.of_variant(knobs.variant))

    def launch_s(self, knobs: Knobs) -> float:
        """Seconds for launching a step's kernels of any size."""
        kappa, _ = self.of_variant(knobs.variant)
        return float(kappa * (self.coefficients[LAUNCH] @ [1.0, knobs.layers]))

    def of_variant(self, variant: Variant) -> tuple[float, float]:
        """κ and λ of `variant`; the usual ones if it was never timed."""
        return self.factors.get(variant, _usual_factors(variant, overlapping=self.power > 1))

    def of_terms(self, terms: _Floats, misaligned: _Floats, kappa: _Floats | float, lam: _Floats | float) -> _Floats:
        """Seconds (n,) of `terms` (n, m), with indicators `misaligned` (n, 2) or (2,), and κ and λ (n,) or one for all."""
        parts, depth, n_outer = terms * self.coefficients, terms[:, 1], _n_outer(self.features)
        floor = kappa * parts[:, LAUNCH].sum(axis=1)
        layers = (depth - self.at_ends + lam * (depth - LAST_LAYER)) * parts[:, n_outer:].sum(axis=1)
        work = ((1 + misaligned @ self.aligned) * (parts[:, UPDATE:n_outer].sum(axis=1) + layers)) ** self.growth
        return np.asarray((floor**self.power + work**self.power) ** (1 / self.power), dtype=np.float64)


@dataclass(frozen=True)
class TimeModel:
    """The fitted means, and the process of what they miss."""

    forms: dict[tuple[Hashable, ...], TimeForm]
    """By `Variant.time_key`."""
    seen: tuple[tuple[Knobs, float], ...]
    """(configuration, log of the mean's step time) of the timed probes."""
    weights: _Floats
    """(n,) K⁻¹ · residual."""
    inverse: _Floats
    """(n, n) K⁻¹."""
    unrest: float = 0.0
    """The machine's noise: the relative half interval of the median probe, and the pace. Every repeated measurement includes it."""

    def knows(self, variant: Variant) -> bool:
        """Whether a form was fitted that predicts steps of `variant`."""
        return variant.time_key in self.forms

    def form_of(self, variant: Variant) -> TimeForm:
        """The mean of `variant`. Raises KeyError if no step of its form was timed."""
        return self.forms[variant.time_key]

    def step_s(self, knobs: Knobs, capacity: int, sizes: _Floats) -> _Floats:
        """Predicted seconds of a step (n,) at `sizes` (n, features). Raises KeyError if no step of its form was timed."""
        mean = self.form_of(knobs.variant).step_s(knobs, capacity, sizes)
        if not self.seen:
            return mean
        cross = _cross(self.seen, knobs, np.log(mean))
        return np.asarray(mean * np.exp(cross @ self.weights), dtype=np.float64)

    def step_of(self, probe: Probe, features: tuple[str, ...]) -> float:
        """Predicted seconds of the step that `probe` timed."""
        return float(self.step_s(probe.spec.knobs, _capacity(probe), _sizes(features, probe))[0])

    def spread(self, knobs: Knobs, step_s: float) -> float:
        """Relative standard deviation of the prediction for `knobs` at a load that takes about `step_s`."""
        prior = SMOOTH_SPREAD**2 + OWN_SPREAD**2 + LOAD_SPREAD**2
        if not self.seen:
            return float(np.sqrt(prior))
        log_s = float(np.log(step_s))
        cross = _cross(self.seen, knobs, np.array([log_s]))[0]
        known = max(NOISE_FLOOR**2, prior - cross @ self.inverse @ cross)
        stray = STRAY * max(0.0, min(_apart(knobs, timed) for timed, _ in self.seen) - LENGTH)
        stray_load = STRAY_LOAD * max(0.0, min(abs(log_s - timed_s) for _, timed_s in self.seen) - LENGTH)
        return float(np.sqrt(known + stray**2 + stray_load**2))

    def spread_of_runs(self, knobs: Knobs, step_s: float) -> float:
        """The same for the measurement of a run, which includes the machine's noise. No probe can reduce that part."""
        return float(np.hypot(self.spread(knobs, step_s), self.unrest))

    def is_timed(self, knobs: Knobs) -> bool:
        """Whether `knobs` themselves were timed."""
        return any(timed == knobs for timed, _ in self.seen)


def fit_time(features: tuple[str, ...], probes: Iterable[Probe], *, overlapping: bool = True) -> TimeModel:
    """Fit the form to every timed probe in `probes`, and the process to those on real samples.

    `overlapping` says whether work overlaps with launching. On a CPU it does not, so that p is 1.
    """
    # Sorted by key: a search for the best parameters that ends early would end elsewhere in another order.
    timed = sorted((probe for probe in probes if has_timing(probe)), key=lambda probe: probe.spec.key)
    forms: dict[tuple[Hashable, ...], TimeForm] = {}
    for key in dict.fromkeys(probe.spec.knobs.variant.time_key for probe in timed):
        group = [probe for probe in timed if probe.spec.knobs.variant.time_key == key]
        forms[key] = _fit_form(_Timings.of(features, group, overlapping=overlapping), overlapping=overlapping)
    telling = [probe for probe in timed if _is_real(probe)]
    means = [
        float(forms[p.spec.knobs.variant.time_key].step_s(p.spec.knobs, _capacity(p), _sizes(features, p))[0])
        for p in telling
    ]
    seen = tuple((p.spec.knobs, float(np.log(mean))) for p, mean in zip(telling, means, strict=True))
    residual = np.array([np.log(_step_s(p) / mean) for p, mean in zip(telling, means, strict=True)])
    pace = 0.0 if overlapping else PACE  # of the few seconds that a timing takes
    noise = np.array([max(NOISE_FLOOR, _interval(p) / 2) ** 2 + pace**2 for p in telling])
    if not seen:
        return TimeModel(forms, seen, np.zeros(0), np.zeros((0, 0)))
    covariance = np.concatenate([_cross(seen, knobs, np.array([log_s])) for knobs, log_s in seen]) + np.diag(noise)
    inverse = np.linalg.inv(covariance)
    unrest = float(np.hypot(np.median([_interval(p) for p in telling]), pace))
    return TimeModel(forms, seen, inverse @ residual, inverse, unrest)


@dataclass(frozen=True)
class _Timings:
    """The timed probes of one form as arrays: n timings, m terms."""

    features: tuple[str, ...]
    variants: tuple[Variant, ...]
    """The plainest first: the factors of the others are relative to it."""
    variant_of: NDArray[np.intp]
    """(n,) places in `variants`."""
    terms: _Floats
    """(n, m)"""
    misaligned: _Floats
    """(n, 2)"""
    log_s: _Floats
    """(n,)"""
    weights: _Floats
    """(n,)"""

    @classmethod
    def of(cls, features: tuple[str, ...], probes: Sequence[Probe], *, overlapping: bool) -> _Timings:
        """The timings of `probes`, of which there is at least one."""
        each = [p.spec.knobs.variant for p in probes]
        variants = tuple(sorted(dict.fromkeys(each), key=lambda variant: variant.departures))
        return cls(
            features=features,
            variants=variants,
            variant_of=np.array([variants.index(variant) for variant in each]),
            terms=np.concatenate([_terms(p.spec.knobs, _capacity(p), _sizes(features, p)) for p in probes]),
            # Synthetic graphs are too small to show what tiles waste; fitted to them, δ was wrong by a fifth elsewhere.
            misaligned=np.array([_misaligned(p.spec.knobs) * (overlapping and _is_real(p)) for p in probes]),
            log_s=np.log([_step_s(p) for p in probes]),
            weights=np.array([(1.0 if _is_real(p) else MICRO_WEIGHT) / (1 + _interval(p) / NOISY) for p in probes]),
        )

    @property
    def at_ends(self) -> int:
        """Layers whose work counts with the stem and the head; none if no model has more than one layer."""
        return int(self.terms[:, 1].max() > 1)

    @property
    def scale(self) -> _Floats:
        """(m,) factors that bring every term to the size of the shortest step; 0 for a term that no timed batch has."""
        peak = self.terms.max(axis=0)
        scale: _Floats = np.divide(np.exp(self.log_s).min(), peak, out=np.zeros_like(peak), where=peak > 0)
        return scale

    def start(self, scale: _Floats) -> _Floats:
        """(m,) coefficients of `scale` to start from: non-negative least squares of the plain sum of all terms."""
        from scipy.optimize import nnls

        plain = self.terms.copy()
        plain[:, _n_outer(self.features) :] *= self.terms[:, 1:2] - self.at_ends
        solution, _ = nnls(self.weights[:, None] * (plain * scale) / np.exp(self.log_s)[:, None], self.weights)
        return np.asarray(np.maximum(solution, 1e-3), dtype=np.float64)

    def misfit(self, form: TimeForm) -> _Floats:
        """(n,) weighted errors of the logarithm of the step."""
        kappa, lam = np.array([form.of_variant(variant) for variant in self.variants])[self.variant_of].T
        predicted = np.log(form.of_terms(self.terms, self.misaligned, kappa, lam) + 1e-12)
        return np.asarray(self.weights * (predicted - self.log_s), dtype=np.float64)


class _Unknowns:
    """Where each unknown of a form stands in the vector that the search varies.

    The m coefficients and δ come first; then κ − 1 and λ of every variant but the plainest; γ − 1 is last.
    """

    def __init__(self, n_terms: int, n_others: int) -> None:
        ends = [int(end) for end in np.cumsum([n_terms, 2, n_others, n_others, 1])]
        starts = [0, *ends[:-1]]
        self.coefficients, self.aligned, self.launches, self.recomputed, self.growth = map(slice, starts, ends)
        self.factors = slice(self.launches.start, self.recomputed.stop)
        self.n = ends[-1]

    def form(self, x: _Floats, timings: _Timings, scale: _Floats, *, overlapping: bool) -> TimeForm:
        """The form that the vector `x` (n,) stands for."""
        kappas, lambdas = [1.0, *(1 + x[self.launches])], [0.0, *x[self.recomputed]]
        of_variants = zip(timings.variants, kappas, lambdas, strict=True)
        return TimeForm(
            features=timings.features,
            coefficients=x[self.coefficients] * scale,
            aligned=x[self.aligned],
            factors={variant: (float(kappa), float(lam)) for variant, kappa, lam in of_variants},
            power=OVERLAPPING if overlapping else 1.0,
            growth=1 + float(x[self.growth][0]),
            at_ends=timings.at_ends,
        )


def _fit_form(timings: _Timings, *, overlapping: bool) -> TimeForm:
    """Positive least squares of the log time, with outliers counted linearly. δ, κ, λ and γ are drawn to their usual values."""
    from scipy.optimize import least_squares

    others, scale = timings.variants[1:], timings.scale
    unknowns = _Unknowns(timings.terms.shape[1], len(others))
    usual = np.array([_usual_factors(variant, overlapping=overlapping) for variant in others]).reshape(-1, 2)
    usual_factors = np.concatenate([usual[:, 0] - 1, usual[:, 1]])

    def misfit(x: _Floats) -> _Floats:
        form = unknowns.form(x, timings, scale, overlapping=overlapping)
        drawn = [
            x[unknowns.aligned] / ALIGNED_SPREAD,
            (x[unknowns.factors] - usual_factors) / FACTOR_SPREAD,
            x[unknowns.growth] / GROWTH_SPREAD,
        ]
        return np.concatenate([timings.misfit(form), PRIOR_WEIGHT * np.concatenate(drawn)])

    start, least, most = np.zeros(unknowns.n), np.zeros(unknowns.n), np.full(unknowns.n, np.inf)
    start[unknowns.coefficients] = timings.start(scale)
    start[unknowns.factors] = 0.25
    # Recomputing activations only adds to a step; another axis may make launching cheaper.
    least[unknowns.launches] = [0.0 if variant.checkpointing else LEAST_FACTOR - 1 for variant in others]
    if overlapping:
        most[UPDATE] = SLOWEST_UPDATE_S / scale[UPDATE]
    fit = least_squares(
        misfit,
        np.minimum(start, 0.9 * most),
        bounds=(least, most),
        x_scale="jac",
        max_nfev=60,
        loss="soft_l1",
        f_scale=STRAY_SCALE,
    )
    return unknowns.form(np.asarray(fit.x, dtype=np.float64), timings, scale, overlapping=overlapping)


def _usual_factors(variant: Variant, *, overlapping: bool) -> tuple[float, float]:
    """κ and λ before `variant` was timed: only activation checkpointing is known to change them."""
    if not variant.checkpointing:
        return 1.0, 0.0
    kappa, lam = UNSEEN_FACTORS
    return (UNSEEN_LAUNCHES if overlapping else kappa), lam


def _cross(seen: tuple[tuple[Knobs, float], ...], knobs: Knobs, log_mean: _Floats) -> _Floats:
    """(n, timed) covariances of `knobs` at loads whose mean's logarithm is `log_mean` (n,) with the timed probes."""
    shared = np.array([_shared(knobs, timed) for timed, _ in seen])
    own = np.array([timed == knobs for timed, _ in seen])
    apart = log_mean[:, None] - np.array([log_s for _, log_s in seen])
    return np.asarray(shared + own * LOAD_SPREAD**2 * np.exp(-0.5 * apart**2), dtype=np.float64)


def _shared(one: Knobs, other: Knobs) -> float:
    """Covariance of two configurations' residuals, the load's part left out."""
    alike = 1.0 if _alignment(one) == _alignment(other) else UNLIKE
    smooth = SMOOTH_SPREAD**2 * alike * np.exp(-0.5 * (_apart(one, other) / LENGTH) ** 2)
    return float(smooth) + (OWN_SPREAD**2 if one == other else 0.0)


def _apart(one: Knobs, other: Knobs) -> float:
    """Distance in log layers and log channels."""
    return float(np.hypot(np.log(one.layers / other.layers), np.log(one.channels / other.channels)))


def _alignment(knobs: Knobs) -> int:
    """The largest of 64, 32 and 16 that divides the channels; 1 if none does."""
    return next((size for size in (64, 32, 16) if knobs.channels % size == 0), 1)


def _misaligned(knobs: Knobs) -> _Floats:
    """(2,) indicators: a multiple of 32 only; of 16 or less only."""
    alignment = _alignment(knobs)
    return np.array([float(alignment == 32), float(alignment < 32)])


def has_timing(probe: Probe) -> bool:
    """Whether a probe has a timing; a first step alone loads kernels and allocates, and is none."""
    outcome = probe.outcome
    return outcome.ok and outcome.step is not None and bool(outcome.parameters) and probe.spec.min_steps > 1


def _is_real(probe: Probe) -> bool:
    """Whether a probe was made to time: on real samples, with more steps than the one warm step of a micro-probe."""
    step = probe.outcome.step
    return any(batch.members for batch in probe.spec.batches) and step is not None and step.n_steps > 1


def _step_s(probe: Probe) -> float:
    if probe.outcome.step is None:
        raise ValueError(f"probe {probe.spec.key}: it was not timed")
    return probe.outcome.step.median_s


def _interval(probe: Probe) -> float:
    """Half the interval of the median, as a share of it."""
    step = probe.outcome.step
    return 0.0 if step is None else (step.high_s - step.low_s) / 2 / step.median_s


def _capacity(probe: Probe) -> int:
    return probe.outcome.parameters or 0


def _sizes(features: tuple[str, ...], probe: Probe) -> _Floats:
    load = probe.outcome.step_load
    if load is None:
        raise ValueError(f"probe {probe.spec.key}: a timed outcome has a load")
    return np.array([[load[name] for name in features]])


def _terms(knobs: Knobs, capacity: int, sizes: _Floats) -> _Floats:
    """(n, terms) for `sizes` (n, features): 1, L; P; for every size s, s·C; for every size, of one layer, s, s·C, s·C²."""
    width = float(knobs.channels)
    fixed = np.broadcast_to([1.0, float(knobs.layers), float(capacity)], (len(sizes), 3))
    outer, layer = np.array([1.0, width]), np.array([1.0, width, width**2])
    return np.concatenate(
        [fixed, *((sizes[:, :, None] * unit).reshape(len(sizes), -1) for unit in (outer, layer))], axis=1
    )


def _n_outer(features: tuple[str, ...]) -> int:
    """The number of terms before those of a layer."""
    return 3 + 2 * len(features)
