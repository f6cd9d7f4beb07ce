import sys
from types import SimpleNamespace

import pytest

from compass.errors import InputError
from compass.fleet.agent import n_different_cards
from compass.fleet.fleet_file import FleetFile, KindRules
from compass.fleet.kinds import group_places, wanted_kinds
from compass.fleet.simulated import SimulatedAgent, simulated_node
from compass.fleet.survey import survey_nodes
from compass.fleet.waiting import wait_for_kinds
from compass.version import __version__


def kinds_of(head, file=None, **flags):
    return group_places(survey_nodes(head, allow_skew=flags.get("allow_skew", False)), file or FleetFile())


def test_equal_nodes_are_one_kind(engine_of, head_of):
    engine = engine_of(A100=3, T4=1)
    engine.present[-1] = simulated_node("t4-0", "Tesla T4")
    kinds = kinds_of(head_of(engine))
    assert {kind.name: [place.name for place in kind.places] for kind in kinds} == {
        "a100-40gb": ["a100-0", "a100-1", "a100-2"],
        "tesla-t4-16gb": ["t4-0"],
    }
    assert engine.n_asked("describe") == engine.n_asked("close") == 4


def test_the_fleet_file_names_kinds(engine_of, head_of):
    file = FleetFile(kinds={"big": KindRules(device="A100*", price_per_hour=3.0), "mine": KindRules(node="h100-*")})
    kinds = kinds_of(head_of(engine_of(A100=1, H100=2)), file)
    assert [(kind.name, kind.rules.price_per_hour) for kind in kinds] == [("big", 3.0), ("mine", None)]


def test_a_kind_that_is_not_there_is_an_error_with_what_there_is(engine_of, head_of):
    kinds = kinds_of(head_of(engine_of(A100=2)))
    with pytest.raises(InputError) as caught:
        wanted_kinds(kinds, ["a100-40gb", "b200"])
    assert str(caught.value) == (
        "kind b200: got no node of it; there are a100-40gb (A100 40GB, 2 nodes); expected one. "
        "Name a kind that is there, start a node of this one, or see `compass fleet describe`."
    )


def test_a_kind_of_the_fleet_file_is_waited_for(engine_of, head_of):
    engine = engine_of(A100=1)
    file = FleetFile(kinds={"b200": KindRules(device="B200*")}, wait_s=0.01)
    with pytest.raises(InputError) as caught:
        wait_for_kinds(head_of(engine), file, (), allow_skew=False)
    assert str(caught.value) == (
        "kind b200: got no node of it within 0 s; there are a100-40gb (A100 40GB, 1 node); expected one. "
        "Name a kind that is there, start a node of this one, or see `compass fleet describe`."
    )
    assert engine.n_asked("survey") == 1  # the same nodes are not surveyed again


def test_a_kind_that_comes_while_it_is_waited_for(engine_of, head_of, monkeypatch):
    engine = engine_of(A100=1)
    monkeypatch.setattr(
        "compass.fleet.waiting.time.sleep", lambda _: engine.present.append(simulated_node("new", "H100"))
    )
    kinds = wait_for_kinds(head_of(engine), FleetFile(wait_s=60), ("h100-80gb",), allow_skew=False)
    assert [kind.name for kind in kinds] == ["h100-80gb"]


def test_no_node_at_all(engine_of, head_of):
    with pytest.raises(InputError) as caught:
        wait_for_kinds(head_of(engine_of()), FleetFile(wait_s=0.01), (), allow_skew=False)
    assert str(caught.value) == (
        "fleet: got no node that can be used within 0 s; expected at least one. "
        "Start nodes, or raise `wait_s` in the fleet file."
    )


def test_another_compass_is_refused_and_named(engine_of, head_of):
    engine = engine_of(simulated_node("old", "A100", compass="0.1.0"), A100=1)
    with pytest.raises(InputError) as caught:
        kinds_of(head_of(engine), allow_skew=True)
    assert str(caught.value) == (
        f"fleet: got Compass 0.1.0 on old; {__version__} on a100-0; expected Compass {__version__}, as on this machine. "
        "Install the same version on every node."
    )
    assert engine.n_asked("describe") == 0


def test_another_torch_is_refused_unless_it_is_allowed(engine_of, head_of, caplog):
    nodes = [simulated_node("new", "A100", torch="2.13.0"), simulated_node("old", "A100", torch="2.10.0")]
    with pytest.raises(InputError) as caught:
        kinds_of(head_of(engine_of(*nodes)))
    assert str(caught.value) == (
        "fleet: got torch 2.13.0 on new; 2.10.0 on old; expected one version on all nodes. "
        "Install one version everywhere, or pass --allow-skew to plan for each version apart."
    )
    kinds = kinds_of(head_of(engine_of(*nodes)), allow_skew=True)
    assert [(kind.name, kind.places[0].name) for kind in kinds] == [("a100-40gb", "new"), ("a100-40gb-2", "old")]
    assert caplog.messages == [
        "torch differs between nodes, which makes kinds of their own: 2.13.0 on new; 2.10.0 on old"
    ]


def test_missing_files_are_named_by_node_before_anything_runs(engine_of, head_of, tmp_path, monkeypatch):
    workload = tmp_path / "mine.py"
    workload.write_text("Model = 1\n")
    engine = engine_of(A100=2)
    elsewhere = {"a100-1": lambda text: text.replace(str(tmp_path), "/nowhere")}
    monkeypatch.setattr(
        SimulatedAgent,
        "missing",
        lambda self, wanted: original(self, {**wanted, "workload": self.moved(wanted["workload"])}),
    )
    original = SimulatedAgent.__mro__[1].missing
    SimulatedAgent.moved = lambda self, text: elsewhere.get(self.labels.get("who"), lambda same: same)(text)
    engine.present[1] = simulated_node("a100-1", "A100", who="a100-1")
    with pytest.raises(InputError) as caught:
        kinds_of(head_of(engine, workload=f"{workload}:Model"))
    del SimulatedAgent.moved
    assert str(caught.value) == (
        "fleet: got on a100-1 no workload /nowhere/mine.py; expected workload and dataset on every node as they are here. "
        "Put them on shared storage, or write `workload: runtime_env`, `dataset: runtime_env` in the fleet file."
    )
    assert engine.n_asked("describe") == 0


def test_what_a_node_may_lack(tmp_path):
    agent, file = SimulatedAgent({"machine": "A100"}), tmp_path / "mine.py"
    file.write_text("x = 1\n")
    wanted = {"device": None, "paths": [["dataset", str(tmp_path / "data")]], "workload": str(file)}
    assert agent.missing({**wanted, "workload_digest": "0", "module": "no_such_module"}) == [
        f"no dataset {tmp_path / 'data'}",
        f"another content of {file}",
        "no module no_such_module",
    ]


def test_a_node_that_is_lost_while_it_is_surveyed_is_left_out(engine_of, head_of):
    engine = engine_of(A100=2)
    engine.fault = lambda node, request: "before" if node.name == "a100-0" else ""
    head = head_of(engine)
    (kind,) = kinds_of(head)
    assert [place.name for place in kind.places] == ["a100-1"]
    assert [(node.name, why) for node, why in head.connections.losses] == [("a100-0", "the node died")]


def test_an_agent_knows_its_last_answers():
    agent = SimulatedAgent({"machine": "A100"})
    asked = '{"op": "survey", "wanted": {"device": "cpu", "paths": [], "workload": "", "module": ""}}'
    first = agent.ask("first", asked)
    for number in range(31):
        agent.ask(str(number), asked)
    agent.labels["torch"] = "other"  # whoever asks anew sees it
    assert agent.ask("first", asked) is first
    assert agent.ask("new", asked) != first.replace("first", "new")
    assert agent.ask("first", asked) is not first  # the oldest is forgotten


class TwoCards(SimulatedAgent):
    """A node with two cards that differ."""

    def open_runner(self, opening, settings):
        self.labels["machine"] = {"cuda:0": "A100", "cuda:1": "Tesla T4"}[opening.device]
        return super().open_runner(opening, settings)


def test_two_cards_in_one_machine_are_two_kinds(engine_of, head_of, monkeypatch):
    monkeypatch.setattr("compass.fleet.agent.n_different_cards", lambda: 2)
    engine = engine_of(simulated_node("workstation", "A100"))
    engine.make = TwoCards
    kinds = kinds_of(head_of(engine))
    assert [(kind.name, kind.places[0].name) for kind in kinds] == [
        ("a100-40gb", "workstation cuda:0"),
        ("tesla-t4-16gb", "workstation cuda:1"),
    ]


def nvml(*names):
    """NVIDIA's management library with these cards; without any, there is no driver."""
    return SimpleNamespace(
        nvmlInit=lambda: names[0],
        nvmlDeviceGetCount=lambda: len(names),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda index: names[index],
    )


@pytest.mark.parametrize(
    ("names", "visible", "n"),
    [
        ((), None, 0),
        (("T4", "T4"), None, 1),
        (("T4", "A100"), None, 2),
        (("T4", "A100"), "1", 1),
        (("T4", "A100"), "", 0),
    ],
)
def test_cards_are_told_apart_only_where_they_differ(monkeypatch, names, visible, n):
    monkeypatch.setitem(sys.modules, "pynvml", nvml(*names))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert n_different_cards() == n
