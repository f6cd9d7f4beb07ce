"""The mean of the time model: one formula, fitted to the timings that share a form.

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
multiple of 64 waste a share δ of an accelerator's tiles, drawn towards zero; a CPU has no tiles so wide. Larger batches may fit
caches less well, so work grows a little faster or slower than its size: γ, near 1.

A dozen timings do not determine so many unknowns. Each has a normal prior: the logarithms of the coefficients, which are positive,
a very wide one, and δ, κ, λ, γ and p one about their usual values. The fit is the most probable vector; its gradients tell a
prediction how much of it rests on what no timing determined. The priors speak of the size of a term, never of a machine.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compass.cost.observation import Probe
from compass.records import Knobs, Variant

_Floats = NDArray[np.float64]

COEFFICIENT_SPREAD = 4.0
"""Of a coefficient's logarithm: a factor of fifty to either side. Narrower priors took sides where the anchors do not: at 1.5, models
never timed were 9 % off at the median instead of 3 %, all of them predicted too fast."""
LAUNCH_SPREAD, UPDATE_SPREAD = 2.0, 1.0
"""The same of launches, about a third of the shortest step each, and of the weight update."""
UPDATE_S = {True: 4e-11, False: 2e-9}
"""Usual seconds to update one parameter, by whether the device is an accelerator: AdamW moves 40 bytes. A few anchors do not separate
updates from launches."""
OUTER_SHARE = 0.3
"""Usual share of the work of stem and head, about which their coefficients' priors lie."""
ALIGNED_SPREAD = 0.03
"""Of δ about 0. Two of three anchors lie on one side of the steps at 32 and 64 channels: at 0.1 the fit took for tiles what was
width, and models never timed were 7 % off instead of 3 %."""
WASTEFUL_SPREAD, TELLING = 0.5, 9.0
"""Of δ where the timings tell that tiles are wasted: where they are so much likelier with it, as if one timing was three spreads nearer."""
LAUNCHES_SPREAD, REPEATED_SPREAD = 0.3, 0.2
"""Of κ and λ about their usual values."""
GROWTH_SPREAD = 0.05
"""Of γ about 1. On two cores 1.04 was seen. At 0.1 it took for itself what other unknowns should have had: runs after calibration were
less likely, and batches were chosen too small."""
OVERLAPPING, OVERLAPPING_SPREAD = 2.0, 0.2
"""p where work overlaps with launching, and the spread of its logarithm. On an H200, 2 fits fifty timings best."""
UNSEEN_FACTORS = (4 / 3, 1 / 3)
"""κ and λ of activation checkpointing before it was timed: one more forward pass, a third of a step."""
UNSEEN_LAUNCHES = 2.0
"""κ of activation checkpointing where work overlaps with launching: the host hooks every tensor that is not kept. On an H100 and an H200 it was 1.9 to 2.0."""
LAST_LAYER = 0.5
"""The share of a layer that checkpointing does not repeat in the last one: SchNet repeats all of it, ViSNet nearly nothing."""
LEAST_FACTOR = 0.5
"""κ of an axis that makes launching cheaper, at least."""
NO_COST = -40.0
"""Logarithm of the coefficient of a term that no timed batch has."""
TIMING_SPREAD, MICRO_SPREAD = 0.02, 0.4
"""Relative misfit expected of a timing on real samples, and of a synthetic micro-probe, timed over one or two steps in another memory
layout. MACE's compiled parts take three times as long in their first steps."""
NOISY = 0.05
"""A timing whose half interval is this share of its median is expected to miss by twice as much."""
STRAY = 3.0
"""Misfits beyond so many spreads count linearly and no longer squared, so that one slow probe does not move all other predictions."""
LAUNCH, UPDATE, COMMON = slice(2), 2, 3
"""Places of the terms 1 and L, of P, and of the first term of a size, among a form's terms."""
MOST_ROUNDS, LONGEST_STRIDE, LEAST_PROGRESS = 80, 2.0, 1e-5
"""Of the search for the most probable vector: its rounds, the largest change of a logarithm in one, and the progress that ends it."""
MOST_DAMPING = 1e8


@dataclass(frozen=True)
class _Unknowns:
    """Where each unknown stands in the vector of a form.

    The logarithms of the m coefficients and δ come first; then κ and λ of every variant but the plainest; γ and log p are last.
    """

    n_terms: int
    n_others: int

    @property
    def aligned(self) -> slice:
        """δ for channels that are multiples of 32 only, and of 16 only."""
        return slice(self.n_terms, self.n_terms + 2)

    @property
    def launches(self) -> slice:
        """κ of each."""
        return slice(self.aligned.stop, self.aligned.stop + self.n_others)

    @property
    def repeated(self) -> slice:
        """λ of each."""
        return slice(self.launches.stop, self.launches.stop + self.n_others)

    @property
    def growth(self) -> int:
        """The place of γ."""
        return int(self.repeated.stop)

    @property
    def power(self) -> int:
        """The place of log p."""
        return self.growth + 1


@dataclass(frozen=True)
class TimeForm:
    """The fitted mean of the variants with one `time_key`."""

    key: tuple[Hashable, ...]
    features: tuple[str, ...]
    variants: tuple[Variant, ...]
    """The plainest first: the factors of the others are relative to it."""
    overlapping: bool
    """Whether work overlaps with launching. On a CPU it does not, so that p is 1."""
    at_ends: int
    """Layers whose work counts with the stem and the head; 0 where no model has more than one layer."""
    vector: _Floats
    """(p,) every unknown."""
    spreads: _Floats
    """(p,) standard deviations of their priors."""

    def step_s(self, knobs: Knobs, capacity: int, sizes: _Floats) -> _Floats:
        """Seconds (n,) at `sizes` (n, features)."""
        return np.asarray(np.exp(self.log_step(knobs, capacity, sizes)[0]), dtype=np.float64)

    def log_step(self, knobs: Knobs, capacity: int, sizes: _Floats) -> tuple[_Floats, _Floats]:
        """The logarithm of the step (n,) at `sizes` (n, features), and its gradient (n, p)."""
        terms, wasted = time_terms(knobs, capacity, sizes), self._wasted(knobs)
        if knobs.variant in self.variants:
            return self._log_step(self.vector, terms, wasted, np.full(len(sizes), self.variants.index(knobs.variant)))
        # A variant that was never timed is the plainest one with the usual factors.
        with_it = replace(self, variants=(*self.variants, knobs.variant), vector=self._with_variant(knobs.variant))
        log_s, gradient = with_it.log_step(knobs, capacity, sizes)
        at = with_it._unknowns  # noqa: SLF001 - its own class
        return log_s, np.delete(gradient, [at.launches.stop - 1, at.repeated.stop - 1], axis=1)

    def launch_s(self, knobs: Knobs) -> float:
        """Seconds for launching a step's kernels of any size."""
        kappa = _usual_factors(knobs.variant, overlapping=self.overlapping)[0]
        if knobs.variant in self.variants:
            kappa = self._factors(self.vector)[0][self.variants.index(knobs.variant)]
        return float(kappa * (np.exp(self.vector[LAUNCH]) @ [1.0, knobs.layers]))

    @property
    def aligned(self) -> _Floats:
        """δ for channels that are multiples of 32 only, and of 16 only."""
        return self.vector[self._unknowns.aligned]

    @property
    def _unknowns(self) -> _Unknowns:
        return _Unknowns(_n_outer(self.features) + 3 * len(self.features), len(self.variants) - 1)

    def _factors(self, vector: _Floats) -> tuple[_Floats, _Floats]:
        """κ and λ of every variant."""
        at = self._unknowns
        return np.array([1.0, *vector[at.launches]]), np.array([0.0, *vector[at.repeated]])

    def _with_variant(self, variant: Variant) -> _Floats:
        at, (kappa, lam) = self._unknowns, _usual_factors(variant, overlapping=self.overlapping)
        return np.insert(self.vector, [at.launches.stop, at.repeated.stop], [kappa, lam])

    def _wasted(self, knobs: Knobs) -> _Floats:
        return _misaligned(knobs)[None] * self.overlapping

    def _log_step(
        self, vector: _Floats, terms: _Floats, wasted: _Floats, variant_of: NDArray[np.intp]
    ) -> tuple[_Floats, _Floats]:
        """(n,) and its gradient (n, p) where `vector` (p,) holds the unknowns, of `terms` (n, m) and `wasted` (n, 2) or (1, 2)."""
        at, n_outer, depth = self._unknowns, _n_outer(self.features), terms[:, 1]
        kappas, lambdas = self._factors(vector)
        kappa, lam, growth, power = kappas[variant_of], lambdas[variant_of], vector[at.growth], np.exp(vector[at.power])
        parts = terms * np.exp(vector[: at.n_terms])
        floor = kappa * parts[:, LAUNCH].sum(axis=1)
        times = depth - self.at_ends + lam * (depth - LAST_LAYER)
        layer, whole = parts[:, n_outer:].sum(axis=1), 1 + wasted @ vector[at.aligned]
        inner = parts[:, UPDATE:n_outer].sum(axis=1) + times * layer
        log_base = np.log(whole * inner)
        log_floor, log_work = np.log(floor), growth * log_base
        most = np.maximum(log_floor, log_work)
        shares = np.exp(power * np.array([log_floor - most, log_work - most]))
        log_s = most + np.log(shares.sum(axis=0)) / power
        of_floor, of_work = shares / shares.sum(axis=0)
        gradient = np.zeros((len(terms), len(vector)))
        gradient[:, LAUNCH] = (of_floor * kappa / floor)[:, None] * parts[:, LAUNCH]
        gradient[:, UPDATE:n_outer] = (of_work * growth / inner)[:, None] * parts[:, UPDATE:n_outer]
        gradient[:, n_outer : at.n_terms] = (of_work * growth * times / inner)[:, None] * parts[:, n_outer:]
        gradient[:, at.aligned] = (of_work * growth / whole)[:, None] * wasted
        for place in range(1, len(self.variants)):
            mine = variant_of == place
            gradient[mine, at.launches.start + place - 1] = (of_floor / kappa)[mine]
            repeated = of_work * growth * (depth - LAST_LAYER) * layer / inner
            gradient[mine, at.repeated.start + place - 1] = repeated[mine]
        gradient[:, at.growth] = of_work * log_base
        if self.overlapping:
            gradient[:, at.power] = of_floor * log_floor + of_work * log_work - log_s
        return log_s, gradient


@dataclass(frozen=True)
class _Timings:
    """The timed probes of one form as arrays: n timings, m terms."""

    terms: _Floats
    """(n, m)"""
    wasted: _Floats
    """(n, 2)"""
    variant_of: NDArray[np.intp]
    """(n,) places in the form's variants."""
    log_s: _Floats
    """(n,)"""
    spreads: _Floats
    """(n,) relative misfits to expect."""
    real: NDArray[np.bool_]
    """(n,) on real samples."""

    @classmethod
    def of(
        cls, features: tuple[str, ...], variants: Sequence[Variant], probes: Sequence[Probe], *, overlapping: bool
    ) -> _Timings:
        """The timings of `probes`, of which there is at least one."""
        real = np.array([is_real(p) for p in probes])
        scatter = np.array([TIMING_SPREAD * (1 + half_interval(p) / NOISY) for p in probes])
        return cls(
            terms=np.concatenate(
                [time_terms(p.spec.knobs, counted_parameters(p), timed_sizes(features, p)) for p in probes]
            ),
            # Synthetic graphs are too small to show what tiles waste; fitted to them, δ was wrong by a fifth elsewhere.
            wasted=np.array([_misaligned(p.spec.knobs) * overlapping for p in probes]) * real[:, None],
            variant_of=np.array([variants.index(p.spec.knobs.variant) for p in probes]),
            log_s=np.log([timed_step_s(p) for p in probes]),
            spreads=np.where(real, scatter, MICRO_SPREAD),
            real=real,
        )


def fit_form(
    features: tuple[str, ...], key: tuple[Hashable, ...], probes: Sequence[Probe], *, overlapping: bool
) -> TimeForm:
    """The most probable form of the timings of `probes`, of which there is at least one."""
    variants = tuple(
        sorted({p.spec.knobs.variant for p in probes}, key=lambda variant: (variant.departures, str(variant)))
    )
    timings = _Timings.of(features, variants, probes, overlapping=overlapping)
    at_ends = int(timings.terms[:, 1].max() > 1)
    usual, spreads = _priors(features, variants, timings, at_ends, overlapping=overlapping)
    blank = TimeForm(key, features, variants, overlapping, at_ends, usual, spreads)
    narrow, misfit = _most_probable(blank, timings)
    wide = replace(blank, spreads=_with_tiles(blank))
    found, its_misfit = _most_probable(wide, timings) if overlapping else (narrow, misfit)
    if misfit - its_misfit > TELLING:
        return replace(wide, vector=found)
    return replace(blank, vector=narrow)


def _with_tiles(blank: TimeForm) -> _Floats:
    """The spreads (p,) of an accelerator that may waste much of its tiles."""
    spreads = blank.spreads.copy()
    spreads[blank._unknowns.aligned] = WASTEFUL_SPREAD  # noqa: SLF001 - it is being made
    return spreads


def _priors(
    features: tuple[str, ...], variants: Sequence[Variant], timings: _Timings, at_ends: int, *, overlapping: bool
) -> tuple[_Floats, _Floats]:
    """The usual value of every unknown (p,), and the spread about it (p,).

    Usually launching is a part of the shortest step, and all terms of a size have the same part in the others.
    """
    telling = timings.real if timings.real.any() else np.ones(len(timings.log_s), dtype=bool)
    terms, log_s = timings.terms[telling], timings.log_s[telling]
    n_outer, n_terms = _n_outer(features), terms.shape[1]
    shortest = int(np.argmin(log_s))
    means, spreads = np.full(n_terms, NO_COST), np.full(n_terms, COEFFICIENT_SPREAD)
    means[LAUNCH] = log_s[shortest] - np.log(3.0 * terms[shortest, LAUNCH])
    means[UPDATE] = np.log(UPDATE_S[overlapping])
    spreads[LAUNCH], spreads[UPDATE] = LAUNCH_SPREAD, UPDATE_SPREAD
    for place in range(COMMON, n_terms):
        is_outer = place < n_outer
        column = terms[:, place] * (1.0 if is_outer else terms[:, 1] - at_ends + LAST_LAYER)
        if (column <= 0).all():
            spreads[place] = 1.0
            continue
        part = (OUTER_SHARE / 2 if is_outer else 1 / 3) / len(features)
        has = column > 0
        means[place] = float(np.mean(log_s[has] - np.log(column[has]))) + np.log(part)
    factors = np.array([_usual_factors(variant, overlapping=overlapping) for variant in variants[1:]]).reshape(-1, 2)
    n_others = len(factors)
    usual = [*means, 0, 0, *factors[:, 0], *factors[:, 1], 1.0, np.log(OVERLAPPING) if overlapping else 0.0]
    more = [ALIGNED_SPREAD] * 2 + [LAUNCHES_SPREAD] * n_others + [REPEATED_SPREAD] * n_others
    return np.array(usual), np.array([*spreads, *more, GROWTH_SPREAD, OVERLAPPING_SPREAD])


def _most_probable(blank: TimeForm, timings: _Timings) -> tuple[_Floats, float]:
    """The vector (p,) of the largest posterior density and its misfit, by damped Gauss–Newton steps from the usual values."""
    at, usual, weights = blank._unknowns, blank.vector, 1 / blank.spreads**2  # noqa: SLF001 - it is being made
    least = np.full(len(usual), -np.inf)
    # Recomputing activations only adds to a step; another axis may make launching cheaper.
    least[at.launches] = [1.0 if variant.checkpointing else LEAST_FACTOR for variant in blank.variants[1:]]
    least[at.repeated], least[at.aligned] = 0.0, 0.0

    def looked_at(vector: _Floats) -> tuple[float, _Floats, _Floats, _Floats]:
        """The misfit, the errors (n,), their weights (n,) and gradients (n, p)."""
        log_s, gradient = blank._log_step(vector, timings.terms, timings.wasted, timings.variant_of)  # noqa: SLF001
        error = timings.log_s - log_s
        stray = np.sqrt(1 + (error / timings.spreads / STRAY) ** 2)
        misfit = 2 * STRAY**2 * (stray - 1).sum() + (weights * (vector - usual) ** 2).sum()
        return float(misfit), error, 1 / (stray * timings.spreads**2), gradient

    vector, damping = usual.copy(), 1e-3
    misfit, error, weight, gradient = looked_at(vector)
    for _ in range(MOST_ROUNDS):
        normal = (gradient.T * weight) @ gradient + np.diag(weights)
        pull = (gradient.T * weight) @ error - weights * (vector - usual)
        stride = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), pull)
        tried = np.maximum(vector + np.clip(stride, -LONGEST_STRIDE, LONGEST_STRIDE), least)
        found = looked_at(tried)
        if found[0] >= misfit:
            damping *= 5
            if damping > MOST_DAMPING:
                break
            continue
        gained = misfit - found[0]
        vector, damping = tried, max(damping / 5, 1e-9)
        misfit, error, weight, gradient = found
        if gained < LEAST_PROGRESS * (1 + misfit):
            break
    return vector, misfit


def _usual_factors(variant: Variant, *, overlapping: bool) -> tuple[float, float]:
    """κ and λ before `variant` was timed: only activation checkpointing is known to change them."""
    if not variant.checkpointing:
        return 1.0, 0.0
    kappa, lam = UNSEEN_FACTORS
    return (UNSEEN_LAUNCHES if overlapping else kappa), lam


# ---------------------------------------------------------------------------------------------------------- the probes


def alignment(knobs: Knobs) -> int:
    """The largest of 64, 32 and 16 that divides the channels; 1 if none does."""
    return next((size for size in (64, 32, 16) if knobs.channels % size == 0), 1)


def _misaligned(knobs: Knobs) -> _Floats:
    """(2,) indicators: a multiple of 32 only; of 16 or less only."""
    return np.array([float(alignment(knobs) == 32), float(alignment(knobs) < 32)])


def has_timing(probe: Probe) -> bool:
    """Whether a probe has a timing; a first step alone loads kernels and allocates, and is none."""
    outcome = probe.outcome
    return outcome.ok and outcome.step is not None and bool(outcome.parameters) and probe.spec.min_steps > 1


def is_real(probe: Probe) -> bool:
    """Whether a probe was made to time: on real samples, with more steps than the one warm step of a micro-probe."""
    step = probe.outcome.step
    return any(batch.members for batch in probe.spec.batches) and step is not None and step.n_steps > 1


def timed_step_s(probe: Probe) -> float:
    """Seconds of the step that was timed."""
    if probe.outcome.step is None:
        raise ValueError(f"probe {probe.spec.key}: it was not timed")
    return probe.outcome.step.median_s


def half_interval(probe: Probe) -> float:
    """Half the interval of the median, as a share of it."""
    step = probe.outcome.step
    return 0.0 if step is None else (step.high_s - step.low_s) / 2 / step.median_s


def counted_parameters(probe: Probe) -> int:
    """Trainable parameters of the probe's model."""
    return probe.outcome.parameters or 0


def timed_sizes(features: tuple[str, ...], probe: Probe) -> _Floats:
    """(1, features) of the batch that was timed."""
    load = probe.outcome.step_load
    if load is None:
        raise ValueError(f"probe {probe.spec.key}: a timed outcome has a load")
    return np.array([[load[name] for name in features]])


def time_terms(knobs: Knobs, capacity: int, sizes: _Floats) -> _Floats:
    """(n, terms) for `sizes` (n, features): 1, L; P; for every size s, s·C; for every size, of one layer, s, s·C, s·C²."""
    width = float(knobs.channels)
    fixed = np.broadcast_to([1.0, float(knobs.layers), float(capacity)], (len(sizes), 3))
    outer, layer = np.array([1.0, width]), np.array([1.0, width, width**2])
    return np.concatenate(
        [fixed, *((sizes[:, :, None] * unit).reshape(len(sizes), -1) for unit in (outer, layer))], axis=1
    )


def _n_outer(features: tuple[str, ...]) -> int:
    """The number of terms before those of a layer."""
    return COMMON + 2 * len(features)
