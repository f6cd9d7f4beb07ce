"""Every policy on models whose costs are made up. Steps of a second are cycles of 450 s."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.records import Choice, Knobs, Load
from compass.stages import POLICIES
from compass.stages.policy import by_score, fastest_pick, largest_batch_pick, pareto_front

REFERENCE = Choice(
    knobs=Knobs(layers=6, channels=128), capacity=1000, batch_size=10, load=Load(graphs=10, sizes=()), live_bytes=0,
    footprint_bound_bytes=0, step_s=1.0, cycle_s=450.0, throughput=10.0,
)  # fmt: skip
SHARES = {"prototyping": (30, 300), "validation": (300, 800)}
TIMED = list(SHARES)


def model(capacity, graphs_per_s=10.0, graph_bytes=1.0, step_s=None, **by_allocator):
    return {
        "capacity": capacity,
        "graph_bytes": graph_bytes,
        "step_s": step_s or (lambda n: n / graphs_per_s),
        **by_allocator,
    }


def choice(number=1, **changes):
    fields = {
        "knobs": Knobs(layers=number, channels=16), "capacity": 100, "batch_size": 8, "load": Load(graphs=8, sizes=()),
        "live_bytes": 0, "footprint_bound_bytes": 100, "step_s": 1, "cycle_s": 450, "throughput": 8.0, "score": 1.0,
    }  # fmt: skip
    return Choice(**{**fields, **changes})


def layers(ranking):
    return [choice.knobs.layers for choice in ranking.choices]


# ------------------------------------------------------------------------------------------------------ timed stages


@pytest.mark.parametrize("stage", TIMED)
def test_without_a_reference_there_is_no_rank(known, stage):
    assert POLICIES[stage].rank(known({(2, 32): model(100)})) is None


@pytest.mark.parametrize(("stage", "expected"), [("prototyping", {2, 3}), ("validation", {3, 4, 5})])
def test_each_space_is_a_share_of_the_reference(known, stage, expected):
    sizes = {1: 29, 2: 30, 3: 300, 4: 301, 5: 800, 6: 801}
    models = {(depth, 16 * depth): model(capacity) for depth, capacity in sizes.items()}
    assert set(layers(POLICIES[stage].rank(known(models, reference=REFERENCE)))) == expected


def test_the_data_cap_holds_in_every_stage(known):
    models = {(2, 32): model(100), (3, 48): model(200)}
    knowledge = known(models, reference=REFERENCE, data_cap=150)
    assert {stage: layers(POLICIES[stage].rank(knowledge)) for stage in ("smoke_test", "prototyping", "production")} == {
        "smoke_test": [2], "prototyping": [2], "production": [2],
    }  # fmt: skip


def test_the_lowest_score_wins(known):
    # q = 0.2: 0.8 · 2^−0.26 + 0.2 · 10^0.26 = 1.0320; 0.8 · 1 + 0.2 · 5^0.26 = 1.1039; 0.8 · 4^−0.26 + 0.2 · 25^0.26 = 1.0197
    models = {(2, 32): model(100, 20), (3, 48): model(200, 10), (4, 64): model(40, 40)}
    changes = ["score.tie_share=0", "stages.prototyping.target_s=1e9"]
    ranking = POLICIES["prototyping"].rank(known(models, reference=REFERENCE, changes=changes))
    assert layers(ranking) == [4, 2, 3]
    assert [c.score for c in ranking.choices] == pytest.approx([1.0197, 1.0320, 1.1039], abs=1e-4)


@pytest.mark.parametrize(("stage", "first"), [("prototyping", 2), ("validation", 3)])
def test_level_scores_go_to_what_the_stage_values(known, stage, first):
    low, high = SHARES[stage]
    capacity = math.sqrt(low * high)
    q = {"prototyping": 0.2, "validation": 0.3}[stage]

    def throughput_for(score, capacity):
        return 10 * ((score - q * (capacity / 1000) ** -0.26) / (1 - q)) ** (-1 / 0.26)

    larger = 1.1 * capacity  # level within half a per cent, and behind
    fast, large = throughput_for(1.0, capacity), throughput_for(1.005, larger)
    models = {(2, 32): model(round(capacity), fast), (3, 48): model(round(larger), large)}
    changes = [f"stages.{stage}.target_s=1e9"]
    assert fast > large
    assert layers(POLICIES[stage].rank(known(models, reference=REFERENCE, changes=changes)))[0] == first


def test_what_is_level_in_all_goes_to_the_smaller_memory():
    choices = [
        choice(1, footprint_bound_bytes=300),
        choice(2, footprint_bound_bytes=100),
        choice(3, footprint_bound_bytes=200),
    ]
    for order in (choices, choices[::-1]):
        assert [c.knobs.layers for c in by_score(order, 0.01, lambda c: c.throughput)] == [2, 3, 1]


def test_what_is_behind_is_in_the_order_of_its_score():
    choices = [choice(1, score=1.03), choice(2, score=1.02), choice(3, score=1.0), choice(4, score=1.009, throughput=9)]
    assert [c.knobs.layers for c in by_score(choices, 0.01, lambda c: c.throughput)] == [4, 3, 2, 1]


def test_under_the_minimum_batch_only_if_nothing_else(known):
    models = {(2, 32): model(100, 100, graph_bytes=60), (3, 48): model(100, 1)}
    rank = POLICIES["prototyping"].rank
    assert layers(rank(known(models, reference=REFERENCE))) == [3]
    assert layers(rank(known({(2, 32): models[2, 32]}, reference=REFERENCE))) == [2]


# -------------------------------------------------------------------------------------------- the fastest, and the front


def test_the_literal_pick_is_the_throughput_and_of_the_level_the_largest_batch():
    choices = [choice(1, throughput=10.0, batch_size=8), choice(2, throughput=9.91, batch_size=16),
               choice(3, throughput=9.8, batch_size=32)]  # fmt: skip
    assert fastest_pick(choices).knobs.layers == 2


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=30))
def test_the_front_is_what_nothing_dominates(values):
    choices = [choice(i + 1, throughput=t, capacity=c, cycle_s=s) for i, (t, c, s) in enumerate(values)]
    front = pareto_front(choices)

    def beats(one, other):
        pairs = [(one.throughput, other.throughput), (one.capacity, other.capacity), (-one.cycle_s, -other.cycle_s)]
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    for c in choices:
        assert any(beats(member, c) for member in front) != (c in front)
    assert [c.throughput for c in front] == sorted((c.throughput for c in front), reverse=True)


# -------------------------------------------------------------------------------------------------- binds, and the why


@pytest.mark.parametrize(
    ("costs", "given", "limited_by", "says"),
    [
        (model(100, 10), {"budget_bytes": 20}, "memory", "; limited by memory, not by time"),
        (model(100, 10), {"dataset_size": 200}, "data", "; limited by the size of the training set, not by time"),
        (model(100, 10), {"changes": ["batch.max_batch=10"]}, "space",
         "; limited by the configured maximum batch, not by time"),
        (model(100, 1), {}, "time", "; limited by time: with one more graph, the cycle would exceed its target"),
        ({"capacity": 100, "step_s": lambda n: 0.01 * n * (1 + 0.05 * (n > 7))}, {}, "score",
         "; none of time, memory or data limits it; a larger batch would not be faster"),
    ],
)  # fmt: skip
def test_what_binds_a_timed_stage_and_how_it_is_said(known, costs, given, limited_by, says):
    knowledge = known({(2, 32): costs}, reference=REFERENCE, **given)
    policy = POLICIES["prototyping"]
    ranking = policy.rank(knowledge)
    assert policy.limited_by(knowledge, ranking.pick) == limited_by
    assert policy.why(knowledge, ranking).endswith(says)


def test_the_whole_sentence_of_a_timed_stage(known):
    knowledge = known({(2, 32): model(100, 20), (3, 48): model(200, 1)}, reference=REFERENCE, budget_bytes=50)
    policy = POLICIES["prototyping"]
    assert policy.why(knowledge, policy.rank(knowledge)) == (
        "best score, 1.032, of 2 models: 100 parameters (10% of the production model's), 20.0 graphs/s, "
        "a cycle of 18.8 min (target 20.0 min); limited by memory, not by time"
    )


def test_a_timed_stage_can_do_without_a_target(known):
    changes = ["stages.prototyping.target_s=null"]
    knowledge = known({(2, 32): model(100, 0.01)}, reference=REFERENCE, changes=changes)
    policy = POLICIES["prototyping"]
    assert policy.rank(knowledge).pick.batch_size == 100
    assert "(target" not in policy.why(knowledge, policy.rank(knowledge))


# ------------------------------------------------------------------------------------------------ production and smoke


def test_production_takes_the_fastest_within_two_per_cent_of_the_largest(known):
    models = {(2, 32): model(1000, 5), (3, 48): model(981, 7), (4, 64): model(979, 9), (5, 80): model(400, 100)}
    ranking = POLICIES["production"].rank(known(models))
    assert layers(ranking) == [3, 2, 4, 5]
    assert ranking.fastest.knobs.layers == 5


def test_production_takes_the_smaller_memory_of_two_as_fast(known):
    models = {(2, 32): model(1000, 5, graph_bytes=1.0), (3, 48): model(1000, 5, graph_bytes=0.9)}
    ranking = POLICIES["production"].rank(known(models, changes=["batch.max_batch=50"]))
    assert layers(ranking) == [3, 2]


@pytest.mark.parametrize(
    ("graph_bytes", "expected"), [({2: 30, 3: 60}, [2]), ({2: 51, 3: 60}, [3, 2]), ({2: 101, 3: 101}, None)]
)
def test_production_wants_a_batch_of_two_if_any_model_has_one(known, graph_bytes, expected):
    models = {(2, 32): model(500, 5, graph_bytes[2]), (3, 48): model(1000, 5, graph_bytes[3])}
    ranking = POLICIES["production"].rank(known(models))
    assert (ranking and layers(ranking)) == expected


@pytest.mark.parametrize(
    ("models", "given", "limited_by"),
    [
        ({(2, 32): model(500), (3, 48): model(1000, graph_bytes=60)}, {}, "memory"),
        ({(2, 32): model(500), (3, 48): model(1000, graph_bytes=60)}, {"data_cap": 900}, "data"),
        ({(2, 32): model(500), (3, 48): model(1000)}, {}, "space"),
        # The fastest of the level is not the largest: what stops the largest counts.
        ({(2, 32): model(990, 9), (3, 48): model(1000, 5), (4, 64): model(2000)}, {"data_cap": 1500}, "data"),
        ({(2, 32): model(990, 9), (3, 48): model(1000, 5)}, {}, "space"),
        ({(2, 32): model(990, 9), (3, 48): model(1000, 5), (4, 64): model(2000, graph_bytes=60)}, {}, "memory"),
    ],
)
def test_what_binds_production(known, models, given, limited_by):
    policy = POLICIES["production"]
    knowledge = known(models, **given)
    assert policy.limited_by(knowledge, policy.rank(knowledge).pick) == limited_by


def test_the_whole_sentence_of_production(known):
    policy = POLICIES["production"]
    knowledge = known({(2, 32): model(750_000), (3, 48): model(2_000_000)}, dataset_size=19_000, data_cap=900_000)
    assert policy.why(knowledge, policy.rank(knowledge)) == (
        "750,000 parameters, 83% of the data cap, limited by the 900,000 parameters that 19,000 complexes can feed; "
        "then the fastest way to train it: the largest batch whose worst case stays under 100 B"
    )
    few = known({(2, 32): model(750_000), (2, 16): model(400_000)}, dataset_size=200, data_cap=900_000)
    assert policy.why(few, policy.rank(few)) == (
        "750,000 parameters, 83% of the data cap, limited by the largest model of the space; "
        "then the fastest way to train it: the largest batch that the training set allows"
    )


def test_production_trains_its_model_the_fastest_way(known):
    """`tight` holds a batch of 90 and takes three times as long; `fast` holds 60."""
    models = {(2, 32): model(1000, slower={"tight": 3.0}, wasteful={"fast": 1.6})}
    policy, knowledge = POLICIES["production"], known(models, allocators=("fast", "tight"))
    ranking = policy.rank(knowledge)
    assert (ranking.pick.allocator, ranking.pick.batch_size) == ("fast", 62)
    assert "the largest batch whose worst case stays under 100 B" in policy.why(knowledge, ranking)
    largest = largest_batch_pick(knowledge, knowledge.config.stages.production, ranking.pick)
    assert (largest.allocator, largest.batch_size) == ("tight", 100)
    alone = known(models, allocators=("fast",))
    assert largest_batch_pick(alone, alone.config.stages.production, policy.rank(alone).pick) is None


def test_a_larger_model_goes_before_a_faster_allocator_and_its_price_is_told(known):
    models = {
        (2, 32): model(950, slower={"tight": 4.0}),
        (3, 48): model(1000, graph_bytes=60, slower={"tight": 4.0}, wasteful={"fast": 2.0}),
    }
    policy = POLICIES["production"]
    knowledge = known(models, changes=["batch.min_batch=1"], allocators=("fast", "tight"))
    ranking = policy.rank(knowledge)
    assert (ranking.pick.capacity, ranking.pick.allocator, ranking.pick.batch_size) == (1000, "tight", 1)
    assert policy.why(knowledge, ranking).endswith("; a model with 5% fewer parameters would train 4.00 times as fast")


def test_where_a_larger_batch_is_slower_the_sentence_says_so(known):
    knowledge = known({(2, 32): model(1000, step_s=lambda n: n**1.5)})
    policy = POLICIES["production"]
    ranking = policy.rank(knowledge)
    assert ranking.pick.batch_size == 2
    assert policy.why(knowledge, ranking).endswith("the fastest way to train it: a larger batch would not be faster")


def test_the_smoke_test_takes_the_smallest_at_batch_one(known):
    policy = POLICIES["smoke_test"]
    knowledge = known({(3, 48): model(200), (2, 32): model(100), (4, 64): model(300)})
    ranking = policy.rank(knowledge)
    assert (layers(ranking), ranking.pick.batch_size, ranking.fastest) == ([2], 1, None)
    assert policy.limited_by(knowledge, ranking.pick) == "nothing"


# ------------------------------------------------------------------------------------------------------ nothing fits


@pytest.mark.parametrize(
    ("models", "given", "limited_by", "reason", "nearest"),
    [
        ({(2, 32): model(100, graph_bytes=300), (3, 48): model(200, graph_bytes=200)}, {}, "memory",
         "one graph of the smallest model may need 200 B; the budget is 100 B", 3),
        ({(2, 32): model(100, 0.1), (3, 48): model(200, 0.05)}, {}, "time",
         "at batch 1, a cycle of the fastest model takes 75.0 min; at most 40.0 min are allowed", 2),
        ({(2, 32): model(100, 9, graph_bytes=300), (3, 48): model(200, 0.05)}, {}, "time",
         "at batch 1, a cycle of the fastest model takes 2.5 h; at most 40.0 min are allowed", 3),
        ({(2, 32): model(10), (3, 48): model(400)}, {}, "space", "no model has 30 to 300 parameters", 3),
        ({(2, 32): model(100), (3, 48): model(200)}, {"data_cap": 50, "dataset_size": 7}, "data",
         "every model has more than the 50 parameters that 7 complexes can feed", 2),
    ],
)  # fmt: skip
def test_nothing_fits_a_timed_stage(known, models, given, limited_by, reason, nearest):
    policy = POLICIES["prototyping"]
    knowledge = known(models, reference=REFERENCE, **given)
    assert policy.rank(knowledge) is None
    found = policy.nearest(knowledge)
    assert found[:2] == (limited_by, reason)
    assert (found[2].knobs.layers, found[2].batch_size) == (nearest, 1)


@pytest.mark.parametrize("stage", ["smoke_test", "prototyping", "validation", "production"])
def test_without_a_reference_the_reason_is_productions(known, stage):
    knowledge = known({(2, 32): model(100, graph_bytes=300)})
    binds, reason, nearest = POLICIES[stage].nearest(knowledge)
    assert (binds, nearest.footprint_bound_bytes) == ("memory", 300)
    assert reason == "one graph of the smallest model may need 300 B; the budget is 100 B"


def test_what_was_ruled_out_is_named(known):
    knowledge = known({(2, 32): model(100), (3, 48): model(200)}, reference=REFERENCE)
    policy = POLICIES["prototyping"]
    small, large = knowledge.capacities
    knowledge.pruned.rule_out(small, "fast", "out_of_memory: ran out")
    assert policy.nearest(knowledge)[:2] == ("memory", "out_of_memory: ran out")
    for knobs in (small, large):
        knowledge.pruned.set_aside(knobs, "crashed: exit code 1")
    assert policy.rank(knowledge) is None
    assert policy.nearest(knowledge) == ("model", "none of the 2 models runs: crashed: exit code 1", None)


# ------------------------------------------------------------------------------------------------- the workload's words


@pytest.mark.parametrize(("noun", "one", "data"), [("", "graph", "complexes"), ("images", "image", "images")])
def test_the_sentences_have_the_workloads_words(known, noun, one, data):
    slow = known({(2, 32): model(100, 1)}, reference=REFERENCE, noun=noun)
    policy = POLICIES["prototyping"]
    why = policy.why(slow, policy.rank(slow))
    assert why.endswith(f"; limited by time: with one more {one}, the cycle would exceed its target")
    assert f" {one}s/s, a cycle of " in why
    policy = POLICIES["smoke_test"]
    assert policy.why(slow, policy.rank(slow)).startswith(f"the smallest model and one {one} show that data")
    policy = POLICIES["production"]
    models = {(2, 32): model(750_000), (3, 48): model(2_000_000)}
    capped = known(models, dataset_size=19_000, data_cap=900_000, noun=noun)
    assert f"the 900,000 parameters that 19,000 {data} can feed; " in policy.why(capped, policy.rank(capped))
    huge = known({(2, 32): model(100, graph_bytes=300)}, noun=noun)
    assert policy.nearest(huge).reason.startswith(f"one {one} of the smallest model may need 300 B")
    pairs = known({(2, 32): model(100, graph_bytes=300)}, noun=noun, least_batch=2)
    assert policy.nearest(pairs).reason.startswith(f"2 {one}s of the smallest model may need 600 B")
    assert POLICIES["smoke_test"].why(pairs, None).startswith(f"the smallest model and 2 {one}s show that data")
    none = known(models, data_cap=50, dataset_size=7, noun=noun)
    assert policy.nearest(none).reason == f"every model has more than the 50 parameters that 7 {data} can feed"
