"""An engine that harms requests on purpose: agents and nodes end in mid-probe, requests come twice."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from compass.fleet.engine import FleetEngine, FleetNode, Link, NodeLostError

MID_PROBE_S = 0.03
"""After a probe has been asked for; a probe holds its node longer (the label `hold_s`)."""


@dataclass
class InjectingEngine:
    """`inner`, whose every probe may meet one of `faults`; each of those is used once, at random."""

    inner: FleetEngine
    faults: list[str]
    kill_node: Callable[[FleetNode], None]
    """End a node and all its processes, and start another like it."""
    rng: random.Random
    chance: float
    """Of a probe to meet a fault."""
    injected: Counter[str] = field(default_factory=Counter)
    n_probes: int = 0
    sends_files: bool = False
    _harmed: set[str] = field(default_factory=set)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def send(self, folder: Path) -> None:
        """As `inner`."""
        self.inner.send(folder)

    def nodes(self) -> tuple[FleetNode, ...]:
        """As `inner`."""
        return self.inner.nodes()

    def connect(self, node: FleetNode) -> Link:
        """A link that harms."""
        return _InjectingLink(node, self.inner.connect(node), self)

    def close(self) -> None:
        """As `inner`."""
        self.inner.close()

    def next_fault(self, node: FleetNode, request: str) -> str:
        """The fault for this request; empty: none. What was made again meets none, because a second loss is an error."""
        asked = json.loads(request)
        if asked["op"] != "probe":
            return ""
        probe = json.dumps([dict(node.labels)["machine"], asked["spec"]], sort_keys=True)
        with self._turn:
            self.n_probes += 1
            if not self.faults or probe in self._harmed or self.rng.random() > self.chance:
                return ""
            self._harmed.add(probe)
            fault = self.faults.pop()
            self.injected[fault] += 1
            return fault


class _InjectingLink:
    def __init__(self, node: FleetNode, link: Link, engine: InjectingEngine) -> None:
        self._node, self._link, self._engine = node, link, engine

    def ask(self, request_id: str, request: str, *, timeout_s: float) -> str:
        fault = self._engine.next_fault(self._node, request)
        if fault == "answer lost":
            self._link.ask(request_id, request, timeout_s=timeout_s)
            self._link.close()
            raise NodeLostError("the agent cannot be reached")
        killer = None
        if fault in {"agent lost", "node killed"}:
            end = self._link.close if fault == "agent lost" else lambda: self._engine.kill_node(self._node)
            killer = threading.Timer(MID_PROBE_S, end)
            killer.start()
        try:
            answer = self._link.ask(request_id, request, timeout_s=timeout_s)
        finally:
            if killer is not None:
                killer.join()
        if fault == "duplicate" and self._link.ask(request_id, request, timeout_s=timeout_s) != answer:
            raise AssertionError("a request that came twice was done twice")
        if fault in {"agent lost", "node killed"}:
            raise NodeLostError(f"{fault}, after its answer")  # the answer is refused, as one that comes too late
        return answer

    def close(self) -> None:
        self._link.close()
