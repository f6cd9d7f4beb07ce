"""Which models a stage times before it decides, by one strategy of several.

A strategy probes through the lab, whose models learn from it, and returns the policy to go on with: `structured` leaves
the policy as it is, for it chooses among everything that is predicted; Optuna's samplers know only what they tried, so theirs
chooses among that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from compass.planning.experiment import Experiment
from compass.records import Choice, Knobs, Outcome, Stage, Status
from compass.search.acquisition import most_promising
from compass.search.knowledge import Knowledge
from compass.search.samplers import SamplerName, TrialResult, sample
from compass.search.study import NO_SCORE, REFUSED, lateness
from compass.stages.policy import Policy, Ranking
from compass.stages.timed import TimedStage

Strategy = Callable[[TimedStage, Experiment], Policy]


def search_stage(policy: Policy, lab: Experiment) -> Policy:
    """Time the stage's contenders by the configured strategy; the policy that chooses among them."""
    if not isinstance(policy, TimedStage):
        return policy
    lab.stage = policy.stage
    return STRATEGIES[lab.config.search.sampler](policy, lab)


def structured(policy: TimedStage, lab: Experiment) -> Policy:
    """Probe what is expected to improve the stage's score, until the gain left is not worth a probe."""
    rules, search = lab.config.stages[policy.stage], lab.config.search
    for n_done in range(search.probes_per_stage):
        known = lab.known()
        ranking = policy.rank(known)
        if ranking is None:
            break
        choice = most_promising(
            known, rules, ranking.choices, gain_share=search.gain_share, longest_s=lab.longest_timed_s
        )
        if choice is None:
            break
        lab.tell("search", f"{policy.stage}: {choice.knobs}", n_done, search.probes_per_stage, choice.step_s * 5)
        outcome = lab.time(choice.knobs, "search")
        if outcome is None:
            break
        _set_aside(lab, choice.knobs, outcome)
    return policy


def sampled(name: SamplerName, policy: TimedStage, lab: Experiment) -> Policy:
    """Let one of Optuna's samplers choose what is timed."""
    n_trials, tried = lab.config.search.sampler_trials, 0

    def judge(knobs: Knobs) -> TrialResult:
        nonlocal tried
        lab.tell("search", f"{policy.stage}: {knobs}", tried, n_trials)
        tried += 1
        return _verdict(policy, lab, knobs)

    models = policy.models(lab.known())
    verdicts = sample(name, models, judge, n_trials=n_trials, seed=lab.config.seed)
    return Among(policy, frozenset(verdicts))


def _verdict(policy: TimedStage, lab: Experiment, knobs: Knobs) -> TrialResult:
    """Time `knobs`, unless that was done; the stage's score, with the batch that the stage would give them."""
    rules = lab.config.stages[policy.stage]
    if not lab.costs().is_timed(knobs):
        outcome = lab.time(knobs, "search")
        if outcome is None:
            need_bytes = lab.known().choice(knobs, rules, 1).footprint_bound_bytes
            return TrialResult(NO_SCORE, max(REFUSED, need_bytes / lab.budget_bytes - 1.0))
        if not outcome.ok:
            _set_aside(lab, knobs, outcome)
            return TrialResult(NO_SCORE if outcome.status is Status.OUT_OF_MEMORY else math.nan, REFUSED)
    known = lab.known()
    choice = known.best_choice(knobs, rules)
    if choice is None:  # too slow even alone, or too big for the stage's own allocator
        alone = known.choice(knobs, rules, 1)
        over = max(lateness(alone.cycle_s, rules), alone.footprint_bound_bytes / lab.budget_bytes - 1.0)
        return TrialResult(NO_SCORE, max(over, 1e-6))
    fill = choice.footprint_bound_bytes / lab.budget_bytes - 1.0
    return TrialResult(choice.score or NO_SCORE, min(0.0, max(lateness(choice.cycle_s, rules), fill)))


def _set_aside(lab: Experiment, knobs: Knobs, outcome: Outcome) -> None:
    if not outcome.ok:
        lab.pruned.set_aside(knobs, f"{outcome.status}: {outcome.detail}")


@dataclass(frozen=True)
class Among:
    """A policy that chooses among the models that were tried."""

    policy: Policy
    tried: Collection[Knobs]

    @property
    def stage(self) -> Stage:
        """The policy's."""
        return self.policy.stage

    @property
    def scored(self) -> bool:
        """The policy's."""
        return self.policy.scored

    def span(self, known: Knowledge) -> tuple[float, float]:
        """The policy's."""
        return self.policy.span(known)

    def rank(self, known: Knowledge) -> Ranking | None:
        """The policy's, of what was tried; the fastest pick is of all models."""
        ranking = self.policy.rank(known)
        choices = () if ranking is None else tuple(choice for choice in ranking.choices if choice.knobs in self.tried)
        return Ranking(choices, ranking.fastest) if ranking and choices else None

    def limited_by(self, known: Knowledge, pick: Choice) -> str:
        """The policy's."""
        return self.policy.limited_by(known, pick)

    def why(self, known: Knowledge, ranking: Ranking) -> str:
        """The policy's."""
        return self.policy.why(known, ranking)

    def nearest(self, known: Knowledge) -> tuple[str, str, Choice | None]:
        """The policy's, unless another model would have been admissible."""
        ranking = self.policy.rank(known)
        if ranking is None:
            return self.policy.nearest(known)
        others = f"{len(ranking.choices)} others are predicted to be"
        return (
            "search",
            f"none of the {len(self.tried)} models that the sampler tried is admissible, but {others}",
            ranking.pick,
        )


STRATEGIES: dict[str, Strategy] = {
    "structured": structured,
    "gp": partial(sampled, "gp"),
    "tpe": partial(sampled, "tpe"),
    "random": partial(sampled, "random"),
    "grid": partial(sampled, "grid"),
}
