"""The engine of this process: its agents are plain objects. `--address local` is this machine; tests have many simulated ones."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from compass.fleet.agent import NodeAgent
from compass.fleet.engine import FleetNode, NodeLostError

MakeAgent = Callable[[Mapping[str, str]], NodeAgent]


class InProcessLink:
    """A link to an agent in this process."""

    def __init__(self, agent: NodeAgent) -> None:
        self._agent, self._turn, self._is_closed = agent, threading.Lock(), False

    def ask(self, request_id: str, request: str, *, timeout_s: float) -> str:  # noqa: ARG002 - probes end in time by themselves
        """The agent's answer."""
        with self._turn:
            if self._is_closed:
                raise NodeLostError("the link is closed")
            return self._agent.ask(request_id, request)

    def close(self) -> None:
        """End the agent's processes, also in the middle of a request."""
        self._is_closed = True
        self._agent.stop()


class InProcessEngine:
    """Nodes whose agents live in this process."""

    sends_files = False

    def __init__(self, nodes: Sequence[FleetNode], make_agent: MakeAgent = NodeAgent) -> None:
        self._nodes, self._make_agent = tuple(nodes), make_agent

    @classmethod
    def here(cls) -> InProcessEngine:
        """This machine alone."""
        name = platform.node() or "this-machine"
        return cls([FleetNode(id=name, name=name)])

    def send(self, folder: Path) -> None:
        """Nothing is sent: all nodes are here."""

    def nodes(self) -> tuple[FleetNode, ...]:
        """All of them."""
        return self._nodes

    def connect(self, node: FleetNode) -> InProcessLink:
        """An agent of its own for each call."""
        if node not in self._nodes:
            raise NodeLostError("it is gone")
        return InProcessLink(self._make_agent(dict(node.labels)))

    def close(self) -> None:
        """There is nothing to end beside the links."""
