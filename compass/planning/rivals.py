"""The choices that may turn out better than a stage's pick, and the short timings that would tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from compass.planning.calibration import timing_spec
from compass.planning.experiment import Experiment
from compass.records import Choice, Knobs, ProbeSpec
from compass.search.acquisition import Losses
from compass.search.knowledge import Knowledge
from compass.search.score import score
from compass.stages.policy import Policy, Ranking

_Floats = NDArray[np.float64]

OTHER_BATCHES = (1 / 8, 1 / 4, 1 / 2, 2.0, 4.0)
"""Of the leading choices, as multiples of their own batch: throughput that falls where a cache ends is seen at no other one."""
RIVAL_FILL_SHARE = 0.6
"""Of the memory that a rival's timing may fill by its bound: calibration has measured what an allocator wastes, and a timing near the
batch in question tells most."""
LEADING, CONSIDERED = 4, 12
"""Choices of which other batches are looked at, and rivals that may be timed: those beyond are far behind."""


def rivals(policy: Policy, known: Knowledge, ranking: Ranking) -> list[Choice]:
    """The choices that the policy may come to prefer, best first; in production those of models as large as the largest."""
    choices = list(ranking.choices)
    if not policy.timed:
        least = (1 - known.config.space.reference_share) * max(choice.capacity for choice in choices)
        choices = [choice for choice in choices if choice.capacity >= least]
    others = [other for choice in choices[:LEADING] for other in _other_batches(policy, known, choice)]
    found = [*choices, *others]
    step_s = np.array([choice.step_s for choice in found])[:, None]
    order = np.argsort(losses_of(policy, known, found)(step_s)[:, 0], kind="stable")
    return [found[place] for place in order]


def losses_of(policy: Policy, known: Knowledge, choices: Sequence[Choice]) -> Losses:
    """What the policy minimises: the score, or the seconds that a graph takes."""
    rules = known.config.stages[policy.stage]
    batch = np.array([float(choice.batch_size) for choice in choices])[:, None]
    capacity = np.array([float(choice.capacity) for choice in choices])[:, None]

    def losses(step_s: _Floats) -> _Floats:
        if not policy.timed or known.reference is None:
            return np.asarray(step_s / batch)
        softened = known.soften(batch / step_s, step_s, rules)
        return score(softened, capacity, known.reference, rules.quality_weight, known.config.score)

    return losses


def timings_of(policy: Policy, experiment: Experiment, choices: Sequence[Choice]) -> Iterator[tuple[Choice, ProbeSpec]]:
    """The timings of the first of `choices` that this run has not made yet, each with what is predicted at its batch.

    One that the ledger holds is among them: a repeated run takes the same steps, and finds their outcomes there.
    """
    known, seen = experiment.known(), set[tuple[Knobs, int]]()
    rules = known.config.stages[policy.stage]
    for choice in choices[:CONSIDERED]:
        spec = timing_spec(experiment, choice.knobs, at_most=choice.batch_size, fill_share=RIVAL_FILL_SHARE)
        if spec is None or spec.key in experiment.runner.keys:
            continue
        n_graphs = sum(copies for _, copies in spec.batches[-1].members)
        if (choice.knobs, n_graphs) not in seen:
            seen.add((choice.knobs, n_graphs))
            yield known.choice(choice.knobs, rules, n_graphs, experiment.calibrated_allocator), spec


def _other_batches(policy: Policy, known: Knowledge, choice: Choice) -> Iterator[Choice]:
    rules = known.config.stages[policy.stage]
    least = max(known.least_batch, min(known.config.batch.min_batch, choice.batch_size))
    largest = known.largest_batch(choice.knobs, rules, choice.allocator)
    for share in OTHER_BATCHES:
        n_graphs = min(round(share * choice.batch_size), largest)
        if n_graphs >= least and n_graphs != choice.batch_size:
            yield known.choice(choice.knobs, rules, n_graphs, choice.allocator)
