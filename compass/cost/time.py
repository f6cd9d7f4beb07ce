"""Step time of any configuration at any load.

Notation: L layers, C channels, s the sizes of a load, P parameters.

    step  = (floor^p + work^p)^(1/p)
    floor = (f₀ + f₁·L) · κ                                launching kernels, whatever their size
    work  = ((outer + (L−1 + λ·(L−½)) · layer) · (1 + δ(C)))^γ
    outer = Σ_s s·(a_s + b_s·C) + g·P                      stem, head and last layer; the optimizer
    layer = Σ_s s·(c_s + d_s·C + e_s·C²)                   one of the other layers

Where the device outruns the host (a GPU on small graphs) a step takes as long as launching it; where it does not, as long
as the work; p says how sharply one takes over from the other. The last layer is cheaper than the others (ViSNet's updates
no edges), so it is counted with the stem and the head. Distances, bases and messages of a fixed width cost the same whatever
the channels, element-wise work grows with s·C, matrix products with s·C². Recomputing activations multiplies the floor (κ)
and takes a share λ of every layer once more, of the last one half of that: it may be as large as the others or next to nothing.
Channels that are not a multiple of 64 waste a share δ of an accelerator's tiles, shrunk towards zero; a CPU has none so wide.
Larger batches fit caches less well, so that work grows a little faster than its size: γ ≥ 1, seconds to the power γ. All
parameters are positive, fitted in log time.

What this form misses is a Gaussian process of its log residual: alike in neighbouring architectures, more so if their
channels are aligned alike, with a part that belongs to one configuration alone and one to its load. Its hyperparameters
are fixed: a dozen timed probes do not determine them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compass.cost.observation import Probe
from compass.records import Knobs, Precision, Variant

Floats = NDArray[np.float64]

SMOOTH_SPREAD, OWN_SPREAD, LOAD_SPREAD = 0.03, 0.02, 0.015
"""Relative spreads of the residual: shared by neighbours, one configuration's own, one load's own."""
STRAY, STRAY_LOAD = 0.3, 0.2
"""Relative spread that the mean may be wrong by, for every e-fold that a configuration is farther than `LENGTH` from any that
was timed, in layers and channels; and for every e-fold of time that its load is."""
LENGTH = 0.7
"""Of the shared part, in log layers and log channels: a factor of two."""
UNLIKE = 0.5
"""Correlation between neighbours whose channels are aligned differently."""
NOISE_FLOOR = 0.007
"""Relative noise of a median that looks exact: the next run of the same probe differs by as much."""
MICRO_WEIGHT = 0.05
"""Of a made-up micro-probe, timed over one or two steps in another memory layout, against a timing on real samples. At 0.3 the
error of architectures never timed was half as large again; MACE's compiled parts take three times as long in their first steps."""
STRAY_SCALE = 0.01
"""Misfit, as weighed, from which it counts linearly and no longer squared: what one slow moment did to a probe, or what the form
does not know, shall not move everything else."""
NOISY = 0.05
"""Half an interval that makes a timing count for half."""
UNSEEN_FACTORS = (4 / 3, 1 / 3)
"""κ and λ of recomputing before it was timed: one forward pass more, a third of a step."""
UNSEEN_LAUNCHES = 2.0
"""κ where work is done while more is launched: the host hooks every tensor that is not kept. On an H100 and an H200 it was 1.9 to 2.0."""
SLOWEST_UPDATE_S = 5e-10
"""A parameter, on an accelerator: AdamW moves 40 bytes, and none moves fewer than 80 GB a second. A few anchors do not tell
updates from launches, and took ten times as much for a wide model's."""
LAST_LAYER = 0.5
"""What the last layer is short of another when it is recomputed: SchNet's is short of nothing, of ViSNet's there is next to nothing."""
GROWTH_SPREAD = 0.05
"""Of γ above 1 before anything was timed; on two cores 1.04 was seen."""
PACE = 0.02
"""Relative spread of a CPU's pace from one few minutes to the next, whatever it runs."""
OVERLAPPING = 2.0
"""p where work is done while more is launched. On an H200 it fits fifty timings best; a few anchors do not determine it."""


@dataclass(frozen=True)
class TimeForm:
    """The fitted mean of one precision: parameters of the formula above."""

    features: tuple[str, ...]
    coefficients: Floats
    """f₀, f₁; g; for every size a, b; for every size c, d, e."""
    aligned: Floats
    """δ for channels that are multiples of 32 only, and of 16 only."""
    factors: dict[Variant, tuple[float, float]]
    """κ and λ by variant."""
    power: float
    growth: float = 1.0
    """γ"""
    at_ends: int = 1
    """Layers whose work counts as the ends': none where no model has more than one."""

    def step_s(self, knobs: Knobs, capacity: int, sizes: Floats) -> Floats:
        """Seconds (n,) at `sizes` (n, features)."""
        return self.of_terms(_terms(knobs, capacity, sizes), _misaligned(knobs), *self.of_variant(knobs.variant))

    def launch_s(self, knobs: Knobs) -> float:
        """Seconds that launching a step's kernels takes, whatever their size."""
        kappa, _ = self.of_variant(knobs.variant)
        return float(kappa * (self.coefficients[:2] @ [1.0, knobs.layers]))

    def of_variant(self, variant: Variant) -> tuple[float, float]:
        """κ and λ."""
        return self.factors.get(variant, _unseen(overlapping=self.power > 1))

    def of_terms(self, terms: Floats, misaligned: Floats, kappa: Floats | float, lam: Floats | float) -> Floats:
        """Seconds (n,) of `terms` (n, terms), of channels `misaligned` (n, 2) or (2,), κ and λ (n,) or one for all."""
        parts, depth, n_outer = terms * self.coefficients, terms[:, 1], _n_outer(self.features)
        floor = kappa * parts[:, :2].sum(axis=1)
        layers = (depth - self.at_ends + lam * (depth - LAST_LAYER)) * parts[:, n_outer:].sum(axis=1)
        work = ((1 + misaligned @ self.aligned) * (parts[:, 2:n_outer].sum(axis=1) + layers)) ** self.growth
        return np.asarray((floor**self.power + work**self.power) ** (1 / self.power), dtype=np.float64)


@dataclass(frozen=True)
class TimeModel:
    """The mean by precision, and the process of what it misses."""

    forms: dict[Precision, TimeForm]
    seen: tuple[tuple[Knobs, float], ...]
    """(configuration, log of the mean's step time) of the timed probes."""
    weights: Floats
    """(n,) K⁻¹ · residual."""
    inverse: Floats
    """(n, n) K⁻¹."""
    unrest: float = 0.0
    """The machine's own: relative half interval of the median probe, and its pace. Whoever repeats a prediction's probe meets it too."""

    def step_s(self, knobs: Knobs, capacity: int, sizes: Floats) -> Floats:
        """Predicted seconds a step (n,) at `sizes` (n, features). Raises KeyError for a precision never timed."""
        mean = self.forms[knobs.variant.precision].step_s(knobs, capacity, sizes)
        if not self.seen:
            return mean
        cross = _cross(self.seen, knobs, np.log(mean))
        return np.asarray(mean * np.exp(cross @ self.weights), dtype=np.float64)

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
        """The same of what a run will show, which meets the machine's unrest too. No probe can lessen that part."""
        return float(np.hypot(self.spread(knobs, step_s), self.unrest))

    def is_timed(self, knobs: Knobs) -> bool:
        """Whether `knobs` themselves were timed."""
        return any(timed == knobs for timed, _ in self.seen)


def fit_time(features: tuple[str, ...], probes: Iterable[Probe], *, overlapping: bool = True) -> TimeModel:
    """Fit the form to every timed probe in `probes`, and the process to those on real samples.

    `overlapping` says whether work is done while more is launched; a CPU does one after the other, so that p is 1.
    """
    # In an order of their own: a search for the best parameters that ends early ends elsewhere in another order.
    timed = sorted((probe for probe in probes if _is_timed(probe)), key=lambda probe: probe.spec.key)
    forms: dict[Precision, TimeForm] = {}
    for precision in dict.fromkeys(probe.spec.knobs.variant.precision for probe in timed):
        group = [probe for probe in timed if probe.spec.knobs.variant.precision == precision]
        forms[precision] = _fit_form(features, group, overlapping=overlapping)
    telling = [probe for probe in timed if _is_real(probe)]
    means = [
        float(forms[p.spec.knobs.variant.precision].step_s(p.spec.knobs, _capacity(p), _sizes(features, p))[0])
        for p in telling
    ]
    seen = tuple((p.spec.knobs, float(np.log(mean))) for p, mean in zip(telling, means, strict=True))
    residual = np.array([np.log(_step_s(p) / mean) for p, mean in zip(telling, means, strict=True)])
    pace = 0.0 if overlapping else PACE  # a timing is of its few seconds
    noise = np.array([max(NOISE_FLOOR, _interval(p) / 2) ** 2 + pace**2 for p in telling])
    if not seen:
        return TimeModel(forms, seen, np.zeros(0), np.zeros((0, 0)))
    covariance = np.concatenate([_cross(seen, knobs, np.array([log_s])) for knobs, log_s in seen]) + np.diag(noise)
    inverse = np.linalg.inv(covariance)
    unrest = float(np.hypot(np.median([_interval(p) for p in telling]), pace))
    return TimeModel(forms, seen, inverse @ residual, inverse, unrest)


def _fit_form(features: tuple[str, ...], probes: Sequence[Probe], *, overlapping: bool) -> TimeForm:
    """Positive least squares of the log time, softened for what strays, from the plain sum as a start."""
    from scipy.optimize import least_squares

    variants = sorted(dict.fromkeys(p.spec.knobs.variant for p in probes), key=lambda variant: variant.checkpointing)
    terms = np.concatenate([_terms(p.spec.knobs, _capacity(p), _sizes(features, p)) for p in probes])
    # Made-up graphs are too small to show what tiles waste; taken at their word they cost a fifth elsewhere.
    misaligned = np.array([_misaligned(p.spec.knobs) * (overlapping and _is_real(p)) for p in probes])
    index = np.array([variants.index(p.spec.knobs.variant) for p in probes])
    log_s = np.log([_step_s(p) for p in probes])
    weight = np.array([(1.0 if _is_real(p) else MICRO_WEIGHT) / (1 + _interval(p) / NOISY) for p in probes])
    plain = terms.copy()
    at_ends = int(terms[:, 1].max() > 1)
    plain[:, _n_outer(features) :] *= terms[:, 1:2] - at_ends
    peak = terms.max(axis=0)
    # A feature that no timed batch has costs nothing, as far as anybody knows.
    scale = np.divide(np.exp(log_s).min(), peak, out=np.zeros_like(peak), where=peak > 0)
    n_terms, n_other = terms.shape[1], len(variants) - 1
    kappa, lam = _unseen(overlapping=overlapping)
    usual = np.repeat([kappa - 1, lam], n_other)
    start = np.concatenate(
        [_start(plain * scale, np.exp(log_s), weight), np.zeros(2), np.full(2 * n_other, 0.25), [0.0]]
    )

    def form(x: Floats) -> TimeForm:
        ratios = (
            np.concatenate([[0.0], x[n_terms + 2 : n_terms + 2 + n_other]]),
            np.concatenate([[0.0], x[n_terms + 2 + n_other : -1]]),
        )
        factors = {variant: (1 + float(ratios[0][i]), float(ratios[1][i])) for i, variant in enumerate(variants)}
        power, growth = OVERLAPPING if overlapping else 1.0, 1 + float(x[-1])
        return TimeForm(features, x[:n_terms] * scale, x[n_terms : n_terms + 2], factors, power, growth, at_ends)

    def misfit(x: Floats) -> Floats:
        candidate = form(x)
        kappa, lam = np.array([candidate.of_variant(variant) for variant in variants])[index].T
        predicted = np.log(candidate.of_terms(terms, misaligned, kappa, lam) + 1e-12)
        # δ around 0 ± 0.1; κ and λ of recomputing around what is usual ± ⅕; γ around 1 ± 0.05.
        prior = 0.02 * np.concatenate(
            [x[n_terms : n_terms + 2] / 0.1, (x[n_terms + 2 : -1] - usual) / 0.2, x[-1:] / GROWTH_SPREAD]
        )
        return np.concatenate([weight * (predicted - log_s), prior])

    most = np.full(len(start), np.inf)
    if overlapping:
        most[2] = SLOWEST_UPDATE_S / scale[2]
    fit = least_squares(
        misfit, np.minimum(start, 0.9 * most), bounds=(0, most), x_scale="jac", max_nfev=60, loss="soft_l1",
        f_scale=STRAY_SCALE,
    )  # fmt: skip
    return form(np.asarray(fit.x, dtype=np.float64))


def _unseen(*, overlapping: bool) -> tuple[float, float]:
    kappa, lam = UNSEEN_FACTORS
    return (UNSEEN_LAUNCHES if overlapping else kappa), lam


def _start(terms: Floats, step_s: Floats, weight: Floats) -> Floats:
    """Non-negative least squares of the relative error of the plain sum, kept off the bounds."""
    from scipy.optimize import nnls

    solution, _ = nnls(weight[:, None] * terms / step_s[:, None], weight)
    return np.asarray(np.maximum(solution, 1e-3), dtype=np.float64)


def _cross(seen: tuple[tuple[Knobs, float], ...], knobs: Knobs, log_mean: Floats) -> Floats:
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


def _misaligned(knobs: Knobs) -> Floats:
    """(2,) indicators: a multiple of 32 only; of 16 or less only."""
    alignment = _alignment(knobs)
    return np.array([float(alignment == 32), float(alignment < 32)])


def _is_timed(probe: Probe) -> bool:
    """A first step loads kernels and allocates: it is no timing."""
    outcome = probe.outcome
    return outcome.ok and outcome.step is not None and bool(outcome.parameters) and probe.spec.min_steps > 1


def _is_real(probe: Probe) -> bool:
    """Whether it was made to time: on samples, and for more than the one warm step of a micro-probe, whose samples are few."""
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


def _sizes(features: tuple[str, ...], probe: Probe) -> Floats:
    load = probe.outcome.step_load
    if load is None:
        raise ValueError(f"probe {probe.spec.key}: a timed outcome has a load")
    return np.array([[load[name] for name in features]])


def _terms(knobs: Knobs, capacity: int, sizes: Floats) -> Floats:
    """(n, terms) for `sizes` (n, features): 1, L; P; for every size s, s·C; for every size, of one layer, s, s·C, s·C²."""
    width = float(knobs.channels)
    fixed = np.broadcast_to([1.0, float(knobs.layers), float(capacity)], (len(sizes), 3))
    outer, layer = np.array([1.0, width]), np.array([1.0, width, width**2])
    return np.concatenate(
        [fixed, *((sizes[:, :, None] * unit).reshape(len(sizes), -1) for unit in (outer, layer))], axis=1
    )


def _n_outer(features: tuple[str, ...]) -> int:
    """How many terms come before a layer's."""
    return 3 + 2 * len(features)
