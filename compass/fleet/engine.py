"""What an engine brings: the nodes that are there, and a link to the agent on each."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from compass.records import Record
from compass.records.base import Pairs


class FleetNode(Record):
    """A computer of the fleet, as its engine names it."""

    id: str
    """The engine's own, which no other node ever has."""
    name: str
    """The one that people know it by."""
    labels: Pairs[str] = ()
    """Whatever the engine says about it."""


class NodeLostError(Exception):
    """A node, or the agent on it, ended or gave no answer. It says nothing about the configuration that was probed."""


class Link(Protocol):
    """A connection to the agent of one node, which answers one request at a time."""

    def ask(self, request_id: str, request: str, *, timeout_s: float) -> str:
        """The agent's answer to `request`; a request that is sent again under the same id is answered without being done again.

        Raises:
            NodeLostError: there was no answer within `timeout_s`, or there can be none any more.
        """
        ...

    def close(self) -> None:
        """End the agent and every process that it started. May be called twice, and from any thread."""
        ...


class FleetEngine(Protocol):
    """The machinery that reaches a fleet's nodes."""

    @property
    def sends_files(self) -> bool:
        """Whether it brings workload and dataset to the nodes where the fleet file says so."""
        ...

    def send(self, folder: Path) -> None:
        """Bring `folder` to every node that is connected from now on, as the working folder of its agent."""
        ...

    def nodes(self) -> tuple[FleetNode, ...]:
        """The nodes that are there now, in an order that does not change.

        Raises:
            InputError: nothing answers.
        """
        ...

    def connect(self, node: FleetNode) -> Link:
        """Start an agent on `node`.

        Raises:
            NodeLostError: the node is gone, or is not free.
            InputError: Compass is not installed there.
        """
        ...

    def close(self) -> None:
        """End everything that it started."""
        ...
