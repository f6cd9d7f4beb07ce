import random

from compass.records import Affine
from compass.reporting.memory_parts import memory_parts


def plan_of(profile, *, capacity, live_bytes, footprint_bytes, baseline_bytes):
    plan = profile.plans["prototyping"]
    return plan.model_copy(
        update={
            "choice": plan.choice.model_copy(update={"capacity": capacity}),
            "measured": plan.measured.model_copy(update={"live_bytes": live_bytes, "footprint_bytes": footprint_bytes}),
            "bytes_law": plan.bytes_law.model_copy(update={"baseline_bytes": baseline_bytes}),
        }
    )


def test_the_parts_of_a_plan(profile):
    plan = plan_of(profile, capacity=10, live_bytes=1000, footprint_bytes=1900, baseline_bytes=600)
    found = {part.name: part.n_bytes for part in memory_parts(plan)}
    assert found == {
        "process": 600, "weights": 40, "gradients": 40, "optimizer state": 80, "activations": 840, "kept by the allocator": 300,
    }  # fmt: skip


def test_the_parts_are_the_whole(profile):
    chance = random.Random(5)
    for _ in range(100):
        capacity, beyond_bytes, baseline_bytes = (chance.randrange(10**6) for _ in range(3))
        live_bytes = 16 * capacity + chance.randrange(10**9)
        plan = plan_of(
            profile,
            capacity=capacity,
            live_bytes=live_bytes,
            footprint_bytes=live_bytes + beyond_bytes,
            baseline_bytes=baseline_bytes,
        )
        parts = memory_parts(plan)
        assert sum(part.n_bytes for part in parts) == live_bytes + beyond_bytes
        assert all(part.n_bytes > 0 and part.percent == 100 * part.share for part in parts)


def test_of_another_optimizer_only_the_sum_is_told(profile):
    """SGD with momentum keeps one state: twelve bytes a parameter."""
    plan = profile.plans["prototyping"]
    update = Affine(base=12.0 * plan.choice.capacity, per_unit=())
    law = plan.bytes_law.model_copy(update={"segments": (*plan.bytes_law.segments[:1], ("optimizer", update))})
    parts = memory_parts(plan.model_copy(update={"bytes_law": law}))
    [held] = [part for part in parts if part.name == "weights, gradients and optimizer state"]
    assert held.n_bytes == min(12.0 * plan.choice.capacity, plan.measured.live_bytes)
    assert not {"weights", "gradients", "optimizer state"} & {part.name for part in parts}
