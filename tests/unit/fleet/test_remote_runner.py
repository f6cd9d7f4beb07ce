import json
from contextlib import closing

import pytest

from compass.errors import InputError, WorkerError
from compass.fleet.fleet_file import FleetFile
from compass.fleet.kinds import group_places
from compass.fleet.pulse import pulse_spec, without_slow_first
from compass.fleet.remote_runner import RemoteRunner, Substitutes
from compass.fleet.simulated import simulated_node
from compass.fleet.survey import survey_nodes
from compass.probe.recorded import Recorded
from compass.probe.simulation import SimulatedRunner, machine_named
from compass.probe.store import Store


@pytest.fixture
def opened(head_of):
    """A remote runner of the only kind of an engine, with a spec for it."""

    def make(engine, wait_s=0.01):
        head = head_of(engine)
        (kind,) = group_places(survey_nodes(head, allow_skew=False), FleetFile())
        spec = pulse_spec(head.request, kind.places[0])
        return RemoteRunner(head, Substitutes(kind, head, wait_s, engine.nodes()), spec.runtime), spec, head

    return make


def probes_only(fault, times=1):
    """The fault for the first so many probes, on whatever node."""
    left = [times]

    def decide(_node, request):
        if '"op": "probe"' in request and left[0]:
            left[0] -= 1
            return fault
        return ""

    return decide


def test_it_answers_as_the_machine_itself(engine_of, opened):
    runner, spec, _ = opened(engine_of(A100=1))
    with closing(runner):
        alone = SimulatedRunner(machine_named("A100"))
        assert runner.describe([spec.knobs]) == alone.describe([spec.knobs])
        assert runner.probe(spec) == alone.probe(spec)


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_probe_that_was_lost_with_its_node_is_made_again_on_its_kind(engine_of, opened, fault):
    engine = engine_of(A100=2)
    runner, spec, head = opened(engine)
    engine.fault = probes_only(fault)
    outcome = runner.probe(spec)
    assert outcome == SimulatedRunner(machine_named("A100")).probe(spec)
    assert [name for name, request in engine.asked if '"op": "probe"' in request] == ["a100-0", "a100-1"]
    assert [node.name for node, _ in head.connections.losses] == ["a100-0"]
    assert runner.probe(spec).ok  # on the substitute, which is the present one now
    assert engine.asked[-1][0] == "a100-1"


def test_a_lost_agent_is_started_again_on_the_only_node(engine_of, opened):
    engine = engine_of(A100=1)
    runner, spec, _ = opened(engine)
    engine.fault = probes_only("before")
    assert runner.probe(spec).ok


def test_a_probe_is_made_again_once_only(engine_of, opened):
    engine = engine_of(A100=3)
    runner, spec, _ = opened(engine)
    engine.fault = probes_only("before", times=2)
    with pytest.raises(WorkerError) as caught:
        runner.probe(spec)
    assert (
        str(caught.value)
        == f"kind a100-40gb: the probe of {spec.knobs} was lost twice, last with a100-1: the node died"
    )
    assert engine.n_asked("probe") == 2


def test_no_node_of_the_kind_is_left(engine_of, opened):
    engine = engine_of(A100=1)
    runner, spec, _ = opened(engine)

    def goes(node, request):
        engine.present[:] = [simulated_node("other", "Tesla T4")]
        return "before" if node.name == "a100-0" else ""

    engine.fault = goes
    with pytest.raises(InputError) as caught:
        runner.probe(spec)
    assert str(caught.value) == (
        "kind a100-40gb: got no node of it left within 0 s (a100-0: the node died); there are other; "
        "expected one node that answers. Start one and run the same command again: finished probes are kept."
    )


def test_a_node_that_comes_meanwhile_takes_over_if_it_is_of_the_kind(engine_of, opened):
    engine = engine_of(A100=1)
    runner, spec, _ = opened(engine, wait_s=5)

    def is_replaced(node, _request):
        if node.name != "a100-0":
            return ""
        engine.present[:] = [simulated_node("other", "Tesla T4"), simulated_node("new", "A100")]
        return "before"

    engine.fault = is_replaced
    assert runner.probe(spec) == SimulatedRunner(machine_named("A100")).probe(spec)
    assert engine.asked[-1][0] == "new"


def test_a_request_that_comes_twice_is_done_once(engine_of, opened):
    engine = engine_of(A100=1)
    runner, spec, _ = opened(engine)
    engine.fault = lambda _node, _request: "twice"
    first, second = runner.probe(spec), runner.probe(spec)
    alone = SimulatedRunner(machine_named("A100"))
    assert (first, second) == (alone.probe(spec), alone.probe(spec))


def test_only_the_head_writes_the_ledger_and_a_known_probe_is_not_asked_again(engine_of, opened, tmp_path):
    engine = engine_of(A100=1)
    runner, spec, _ = opened(engine)
    with closing(Store(tmp_path / "probes.jsonl")) as store:
        recorded = Recorded(runner, store, "kind")
        outcomes = [recorded.probe("calibrate", spec) for _ in range(3)]
    assert [one.reused for one in outcomes] == [False, True, True]
    assert engine.n_asked("probe") == 1
    assert len((tmp_path / "probes.jsonl").read_text().splitlines()) == 1


def test_a_failure_on_the_node_is_told_with_its_name(engine_of, opened):
    engine = engine_of(simulated_node("a100-0", "A100", hold_s="soon"))
    with pytest.raises(WorkerError, match=r"^node a100-0: ValueError: could not convert string to float: 'soon'"):
        opened(engine)


def test_a_slow_node_is_named_and_comes_last(engine_of, head_of):
    nodes = [simulated_node("a", "A100", slow="1.8"), simulated_node("b", "A100"), simulated_node("c", "A100")]
    head = head_of(engine_of(*nodes))
    (kind,) = group_places(survey_nodes(head, allow_skew=False), FleetFile())
    assert [place.name for place in kind.places] == ["a", "b", "c"]
    kind, notes = without_slow_first(kind, head)
    assert [place.name for place in kind.places] == ["b", "c", "a"]
    (note,) = notes
    factor = float(note.split("takes ")[1].split(" times")[0])
    assert note == f"a is slow: its step takes {factor:.2f} times the median of a100-40gb"
    assert 1.7 < factor < 1.9


def test_requests_are_plain_text(engine_of, opened):
    engine = engine_of(A100=1)
    runner, spec, _ = opened(engine)
    runner.probe(spec)
    request = json.loads(engine.asked[-1][1])
    assert set(request) == {"op", "opening", "settings", "spec"}
    assert request["opening"]["config"]["dataset"]["catalogue"] == ""
