"""The batches of a run whose ranks differ."""

import pytest

from compass.errors import InputError
from compass.records import Affine, BytesLaw, RankShare
from compass.training.ranks import Ranks
from compass.training.run_batches import make_sampler
from compass.units import GIB, MIB

LAW = BytesLaw(segments=(("step", Affine(base=100 * MIB, per_unit=(("nodes", MIB), ("edges", 0.0)))),))
SHARES = (RankShare(budget_bytes=3 * GIB, speed=1.0), RankShare(budget_bytes=GIB // 2, speed=0.2))
NAMES = tuple(f"c{i:02d}" for i in range(21))


@pytest.fixture
def sampled(spec, data_of):
    def make(**changes):
        plan = spec.plan.model_copy(update={"step_law": Affine(base=0.1, per_unit=(("nodes", 1e-4),)), **changes})
        return make_sampler(spec.model_copy(update={"plan": plan, "shares": SHARES}), data_of(*NAMES), Ranks(2, 0), LAW)

    return make


def test_a_slow_rank_has_two_samples_too_where_the_model_needs_two(sampled):
    for least in (1, 2):
        found = [len(batch) for step in sampled(least_batch=least).steps(0) for batch in step]
        assert (min(found), sum(found)) == (least, len(NAMES))


def test_a_plan_without_a_law_of_step_times(sampled):
    with pytest.raises(
        InputError, match=r"^--rank-speed: got a plan without a law of step times; .* Plan anew: `compass "
    ):
        sampled(step_law=None)


def test_padded_batches_of_unequal_ranks(spec, sampled):
    choice = spec.plan.choice
    padded = choice.model_copy(update={"load": choice.load.model_copy(update={"padded": ("nodes",)})})
    with pytest.raises(InputError, match=r"^--rank-speed: got a workload whose batches are padded \(nodes\); "):
        sampled(choice=padded)
