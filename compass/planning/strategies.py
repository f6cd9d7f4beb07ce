"""The strategies by which a timed stage chooses the models to time before it decides.

A strategy probes through the prober, and the models learn from its probes. It returns the policy to go on with: `structured`
leaves the policy as it is, which chooses among all predicted models; Optuna's samplers know only the models that they tried,
so their policy chooses among those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import partial

from compass.planning.calibration import look_at_models, timing_spec
from compass.planning.experiment import Experiment
from compass.planning.prober import Prober
from compass.planning.rivals import losses_of, rivals, timings_of
from compass.records import Knobs, Outcome, ProbeSpec, Stage, Status
from compass.search.acquisition import most_promising
from compass.search.knowledge import Knowledge
from compass.search.samplers import SamplerName, TrialResult, sample
from compass.search.study import NO_SCORE, REFUSED, lateness
from compass.stages.policy import NearMiss, Policy, Ranking, models_of

Strategy = Callable[[Policy, Experiment, Prober], Policy]


def search_stage(policy: Policy, experiment: Experiment, prober: Prober) -> Policy:
    """Time models of a timed stage by the configured strategy; returns the policy that chooses among them.

    Where memory laws are in doubt, the models that the stage would pick are looked at first.
    """
    if policy.certified:
        look_at_models(policy, experiment, prober)
    if not policy.timed:
        return policy
    return STRATEGIES[experiment.config.search.sampler](policy, experiment, prober)


def structured(policy: Policy, experiment: Experiment, prober: Prober) -> Policy:
    """Time what is expected to improve the stage's score most, until the expected gain is not worth a probe."""
    time_rivals(policy, experiment, prober, gain_share=experiment.config.search.gain_share)
    return policy


def time_rivals(policy: Policy, experiment: Experiment, prober: Prober, *, gain_share: float) -> None:
    """Time what is expected to improve the stage's pick most, until no probe is expected to gain more than `gain_share`."""
    n_most = experiment.config.search.probes_per_stage
    for n_done in range(n_most):
        known = experiment.known()
        ranking = policy.rank(known)
        if ranking is None:
            break
        choices = rivals(policy, known, ranking)
        specs = list(timings_of(policy, experiment, choices))
        probes = [probe for probe, _ in specs]
        choice = most_promising(known, losses_of(policy, known, choices), choices, probes, gain_share=gain_share)
        if choice is None:
            break
        prober.report("search", str(choice.knobs), n_done, n_most, stage=policy.stage)
        _probe(policy, experiment, prober, dict(specs)[choice])


def sampled(name: SamplerName, policy: Policy, experiment: Experiment, prober: Prober) -> Policy:
    """Let one of Optuna's samplers choose the models to time."""
    n_trials, n_done = experiment.config.search.sampler_trials, 0

    def try_model(knobs: Knobs) -> TrialResult:
        nonlocal n_done
        prober.report("search", str(knobs), n_done, n_trials, stage=policy.stage)
        n_done += 1
        return _try(policy, experiment, prober, knobs)

    models = models_of(policy, experiment.known())
    results = sample(name, models, try_model, n_trials=n_trials, seed=experiment.config.seed)
    return Among(policy, frozenset(results))


def _try(policy: Policy, experiment: Experiment, prober: Prober, knobs: Knobs) -> TrialResult:
    """The stage's score of `knobs` with the batch that the stage would give them; they are timed unless they were."""
    if not experiment.costs().is_timed(knobs):
        outcome = _time(policy, experiment, prober, knobs)
        if outcome is None:
            return TrialResult(NO_SCORE, max(REFUSED, _excess(experiment.known(), policy, knobs)))
        if not outcome.ok:
            return TrialResult(NO_SCORE if outcome.status is Status.OUT_OF_MEMORY else math.nan, REFUSED)
    known = experiment.known()
    rules = known.config.stages[policy.stage]
    choice = known.best_choice(knobs, rules)
    if choice is None:  # too slow even with one graph, or too large for the stage's own allocator
        late = lateness(known.choice(knobs, rules, 1).cycle_s, rules)
        return TrialResult(NO_SCORE, max(late, _excess(known, policy, knobs), 1e-6))
    fill = choice.footprint_bound_bytes / known.budget_bytes - 1.0
    return TrialResult(choice.score or NO_SCORE, min(0.0, max(lateness(choice.cycle_s, rules), fill)))


def _excess(known: Knowledge, policy: Policy, knobs: Knobs) -> float:
    """By what share the footprint with one graph exceeds the budget; negative below."""
    return known.choice(knobs, known.config.stages[policy.stage], 1).footprint_bound_bytes / known.budget_bytes - 1.0


def _time(policy: Policy, experiment: Experiment, prober: Prober, knobs: Knobs) -> Outcome | None:
    """Time `knobs`; None if no graph fits."""
    spec = timing_spec(experiment, knobs)
    return None if spec is None else _probe(policy, experiment, prober, spec)


def _probe(policy: Policy, experiment: Experiment, prober: Prober, spec: ProbeSpec) -> Outcome:
    """Make a timing, and set its model aside if it does not run."""
    outcome = prober.probe("search", spec, stage=policy.stage, expected=experiment.expected(spec)).outcome
    if not outcome.ok:
        experiment.pruned.set_aside(spec.knobs, outcome.summary)
    return outcome


class Among:
    """A policy that chooses among the models that a sampler tried, and is otherwise the given one."""

    def __init__(self, policy: Policy, tried: Collection[Knobs]) -> None:
        self._policy, self._tried = policy, tried
        self.stage: Stage = policy.stage
        self.timed, self.certified, self.explained = policy.timed, policy.certified, policy.explained
        self.limited_by, self.why = policy.limited_by, policy.why

    def rank(self, known: Knowledge) -> Ranking | None:
        """The policy's ranking, of the tried models; the fastest choice is of all models."""
        ranking = self._policy.rank(known)
        choices = () if ranking is None else tuple(choice for choice in ranking.choices if choice.knobs in self._tried)
        return Ranking(choices, ranking.fastest) if ranking and choices else None

    def nearest(self, known: Knowledge) -> NearMiss:
        """The policy's, unless a model that was not tried would be admissible."""
        ranking = self._policy.rank(known)
        if ranking is None:
            return self._policy.nearest(known)
        reason = (
            f"none of the {len(self._tried)} models that the sampler tried is admissible; "
            f"{len(ranking.choices)} other models are predicted to be"
        )
        return NearMiss("search", reason, ranking.pick)


STRATEGIES: dict[str, Strategy] = {
    "structured": structured,
    "gp": partial(sampled, "gp"),
    "tpe": partial(sampled, "tpe"),
    "random": partial(sampled, "random"),
    "grid": partial(sampled, "grid"),
}
