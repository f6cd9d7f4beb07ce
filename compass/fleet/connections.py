"""The head's links to the agents: one for each node, opened at its first use, and a note of each that was lost."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from typing import Any

from compass.errors import InputError, WorkerError, printable
from compass.fleet.engine import FleetEngine, FleetNode, Link, NodeLostError
from compass.probe.last_words import reason_of_death

log = logging.getLogger(__name__)


class Connections:
    """Asks the agents of an engine's nodes. Several threads may share one."""

    def __init__(self, engine: FleetEngine) -> None:
        self.engine = engine
        self.losses: list[tuple[FleetNode, str]] = []
        """(node, why) of every agent that was lost, in order."""
        self._links: dict[str, Link] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._turn = threading.Lock()
        self._is_closed = False

    def ask(self, node: FleetNode, operation: str, timeout_s: float, **content: Any) -> Any:
        """What the agent on `node` answers to `operation`.

        Raises:
            NodeLostError: it was lost; it is noted, and the next request starts another agent.
            InputError: it refused an input.
            WorkerError: the request failed there.
        """
        request_id = secrets.token_hex(8)
        request = json.dumps({"op": operation, **content})
        try:
            answer = self._link(node).ask(request_id, request, timeout_s=timeout_s)
        except NodeLostError as error:
            self._lose(node, str(error))
            raise
        return answered(answer, request_id, node)

    def was_lost(self, node: FleetNode) -> bool:
        """Whether an agent on `node` was lost in this run."""
        return any(lost.id == node.id for lost, _ in self.losses)

    def close(self) -> None:
        """End every agent, and refuse further requests. May be called twice."""
        with self._turn:
            self._is_closed = True
            links = list(self._links.values())
            self._links.clear()
        for link in links:
            link.close()

    def _link(self, node: FleetNode) -> Link:
        with self._turn:
            turn = self._turns.setdefault(node.id, threading.Lock())
        with turn:  # one agent a node, while other nodes are connected beside it
            if self._is_closed:
                raise NodeLostError("this run has ended")
            if node.id not in self._links:
                link = self.engine.connect(node)
                with self._turn:
                    self._links[node.id] = link
            return self._links[node.id]

    def _lose(self, node: FleetNode, why: str) -> None:
        with self._turn:
            link = self._links.pop(node.id, None)
            if self._is_closed:
                return
            self.losses.append((node, why))
        log.warning("node %s was lost: %s", node.name, why)
        if link is not None:
            link.close()


def answered(text: str, request_id: str, node: FleetNode) -> Any:
    """What an agent's answer to the request `request_id` holds.

    Raises:
        NodeLostError: it is the answer to another request.
        InputError: the agent refused an input.
        WorkerError: the request failed there.
    """
    answer = json.loads(text)
    if answer["id"] != request_id:
        raise NodeLostError("it answered another request")
    if "bad_input" in answer:
        fields = answer["bad_input"]
        raise InputError(f"node {node.name}, {fields.pop('where')}", **fields)
    if "error" in answer:
        log.debug("a request failed on node %s: %s", node.name, answer["error"])
        reason = reason_of_death(answer["error"]) or answer["error"].strip().splitlines()[-1]
        raise WorkerError(f"node {node.name}: {printable(reason)}")
    return answer["ok"]
