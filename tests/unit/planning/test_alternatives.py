"""Why not the others, and what more of something would buy."""

import pytest

from compass.planning.alternatives import MORE_BYTES, candidates, what_ifs
from compass.planning.strategies import Among
from compass.records import Candidate
from compass.stages import POLICIES

GIB = 1024**3


def model(capacity, rate=10.0, graph_bytes=1.0):
    return {"capacity": capacity, "graph_bytes": graph_bytes, "step_s": lambda graphs: graphs / rate}


@pytest.fixture
def reference(known):
    return POLICIES["production"].rank(known({(9, 144): model(1000, 10)})).pick


def verdicts(rows):
    return {row.layers: row.verdict for row in rows}


def seen(policy, knowledge):
    ranking = policy.rank(knowledge)
    return candidates(policy, knowledge, ranking, ranking.pick if ranking else None)


def test_every_model_is_there_with_what_rules_it_out(known, reference):
    models = {
        (2, 32): model(100, 20),  # in the small space
        (3, 48): model(200, 10),
        (4, 64): model(250, 10, graph_bytes=200),  # too big for a batch of one
        (5, 80): model(260, 1e-3),  # too slow alone
        (6, 96): model(270, 10, graph_bytes=60),  # room for one
        (7, 112): model(500),  # above the share
        (8, 128): model(5000),  # above what the data feed
    }
    knowledge = known(models, reference=reference, data_cap=2000)
    rows = seen(POLICIES["prototyping"], knowledge)
    assert verdicts(rows) == {
        2: "chosen", 3: "admissible", 4: "memory", 5: "time", 6: "batch", 7: "space", 8: "data",
    }  # fmt: skip
    assert [row.layers for row in rows] == [2, 3, 8, 7, 6, 5, 4]
    by_layers = {row.layers: row for row in rows}
    assert (by_layers[4].batch_size, by_layers[4].footprint_bound_bytes) == (1, 200)
    assert (by_layers[5].batch_size, by_layers[5].step_s) == (1, 1000)
    assert by_layers[7].batch_size is None
    assert by_layers[7].throughput is None
    assert by_layers[2].throughput == pytest.approx(20)


def test_what_a_probe_said_stands_there(known, reference):
    knowledge = known({(2, 32): model(100), (3, 48): model(200), (4, 64): model(250)}, reference=reference)
    first, second, _ = knowledge.capacities
    knowledge.pruned.set_aside(first, "crashed: exit code 1")
    knowledge.pruned.rule_out(second, "fast", "out_of_memory: ran out")
    rows = {row.layers: row for row in seen(POLICIES["prototyping"], knowledge)}
    assert (rows[2].verdict, rows[2].reason, rows[2].step_s) == ("model", "crashed: exit code 1", None)
    assert (rows[3].verdict, rows[3].reason) == ("memory", "out_of_memory: ran out")
    assert (rows[4].verdict, rows[4].reason) == ("memory", "out_of_memory: ran out")


def test_what_a_sampler_never_asked_is_untried(known, reference):
    knowledge = known({(2, 32): model(100), (3, 48): model(200)}, reference=reference)
    tried = next(iter(knowledge.capacities))
    rows = seen(Among(POLICIES["prototyping"], {tried}), knowledge)
    assert verdicts(rows) == {2: "chosen", 3: "untried"}


def test_a_smoke_test_chooses_nothing_worth_telling(known):
    knowledge = known({(2, 32): model(100), (3, 48): model(200)})
    assert seen(POLICIES["smoke_test"], knowledge) == ()
    assert what_ifs(POLICIES["smoke_test"], knowledge) == ()


def test_what_more_of_something_buys(known, reference):
    models = {(2, 32): model(100, 0.5), (3, 48): model(2000, 10)}
    knowledge = known(models, reference=reference, dataset_size=1000, data_cap=1000)
    found = {one.change: one for one in what_ifs(POLICIES["prototyping"], knowledge)}
    assert [(one.change, one.amount) for one in found.values()] == [
        ("none", 0), ("memory", MORE_BYTES), ("time", 600), ("data", 1000),
    ]  # fmt: skip
    assert {one.pick.layers for one in found.values()} == {2}
    assert found["time"].pick.score < found["none"].pick.score
    bought = {one.change: one.pick for one in what_ifs(POLICIES["production"], knowledge)}
    assert {change: pick.layers for change, pick in bought.items()} == {"none": 2, "memory": 2, "data": 3}
    assert bought["memory"].batch_size == bought["none"].batch_size == 50  # a twentieth of the data binds


def test_nothing_may_be_admissible_even_then(known, reference):
    knowledge = known({(2, 32): model(100, 1e-9)}, reference=reference)
    assert [one.pick for one in what_ifs(POLICIES["prototyping"], knowledge)] == [None] * 4
    assert what_ifs(POLICIES["prototyping"], known({(2, 32): model(100)})) == ()


def test_a_candidates_figures_have_six_digits(known, reference):
    knowledge = known({(2, 32): model(100, 3)}, reference=reference)
    (row,) = seen(POLICIES["prototyping"], knowledge)
    assert row.step_s == 2.66667
    assert Candidate.model_validate_json(row.model_dump_json()) == row
