"""A fleet of simulated nodes in this process, with faults on demand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from compass.fleet.connections import Connections
from compass.fleet.engine import FleetNode, NodeLostError
from compass.fleet.fleet_file import FleetFile
from compass.fleet.head import Head
from compass.fleet.in_process import InProcessEngine, InProcessLink
from compass.fleet.optimize import FleetRequest
from compass.fleet.simulated import SimulatedAgent, simulated_node
from compass.planning.request import Request


class FaultyLink:
    """A link whose requests a test sees, may do twice and may lose, before or after the agent has done them."""

    def __init__(self, node: FleetNode, link: InProcessLink, engine: "FaultyEngine") -> None:
        self._node, self._link, self._engine = node, link, engine

    def ask(self, request_id: str, request: str, *, timeout_s: float) -> str:
        self._engine.asked.append((self._node.name, request))
        fault = self._engine.fault(self._node, request)
        if fault == "before":
            raise NodeLostError("the node died")
        answer = self._link.ask(request_id, request, timeout_s=timeout_s)
        if fault == "after":
            raise NodeLostError("the node died")
        if fault == "twice":
            assert self._link.ask(request_id, request, timeout_s=timeout_s) == answer
        return answer

    def close(self) -> None:
        self._engine.closed.append(self._node.name)
        self._link.close()


@dataclass
class FaultyEngine(InProcessEngine):
    """Simulated nodes that can go and come."""

    present: list[FleetNode]
    fault: Callable[[FleetNode, str], str] = lambda _node, _request: ""
    make: Callable[[Mapping[str, str]], SimulatedAgent] = SimulatedAgent
    asked: list[tuple[str, str]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def nodes(self):
        return tuple(self.present)

    def connect(self, node):
        if node not in self.present:
            raise NodeLostError("it is gone")
        return FaultyLink(node, InProcessLink(self.make(dict(node.labels))), self)

    def n_asked(self, operation: str) -> int:
        return sum(f'"op": "{operation}"' in request for _, request in self.asked)


@pytest.fixture
def engine_of():
    """An engine of `machine name: number of nodes`, or of given nodes."""

    def make(*nodes: FleetNode, **numbers: int) -> FaultyEngine:
        made = [simulated_node(f"{name.lower()}-{index}", name) for name, n in numbers.items() for index in range(n)]
        return FaultyEngine([*nodes, *made])

    return make


@pytest.fixture
def head_of(tmp_path):
    """The head's side of an engine."""

    def make(engine, **request) -> Head:
        return Head(Connections(engine), Request(cache=tmp_path / "cache", dataset_size=19_000, **request))

    return make


@pytest.fixture
def asked(tmp_path):
    """A request to a fleet: the quick stage alone, in a folder of its own, waiting for nobody."""

    def make(file: FleetFile | None = None, folder: Path = tmp_path / "fleet", **changes) -> FleetRequest:
        request = Request(cache=tmp_path / "cache", dataset_size=19_000, stages=changes.pop("stages", ("smoke_test",)))
        return FleetRequest(request, file or FleetFile(wait_s=0.01), folder=folder, **changes)

    return make
