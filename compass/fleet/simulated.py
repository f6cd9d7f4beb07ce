"""Agents on simulated machines, for tests and benchmarks: a fleet of any size on one computer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from compass.fleet.agent import NodeAgent, Opening
from compass.fleet.engine import FleetNode
from compass.probe.runner import Runner
from compass.probe.simulation import SimulatedRunner, machine_named
from compass.records import Description, Knobs, Outcome, ProbeSpec, RuntimeSettings, StepTime


class SimulatedAgent(NodeAgent):
    """An agent whose runners are simulated. Its node's labels say what is there.

    `machine`: begins the name of the simulated machine, with `_` for a space. `slow`: how many times as long a step takes. `hold_s`: seconds of the real
    clock that each probe takes, so that it can be interrupted. A version's name (`torch`, `compass`): another version.
    """

    def versions(self) -> dict[str, str]:
        """Those of this computer, but for what the labels say."""
        found = super().versions()
        return {name: self.labels.get(name, version) for name, version in found.items()}

    def open_runner(self, opening: Opening, settings: RuntimeSettings) -> Runner:  # noqa: ARG002 - a simulated card's host has none
        """A runner of the node's simulated machine."""
        runner = SimulatedRunner(
            machine_named(self.labels["machine"].replace("_", " ")), memory_limit_bytes=opening.limit_bytes
        )
        return _OfLabels(runner, self.labels)


class _OfLabels:
    """A simulated runner, slower and on a real clock as its node's labels say."""

    def __init__(self, runner: SimulatedRunner, labels: Mapping[str, str]) -> None:
        self._slow, self._hold_s = float(labels.get("slow", 1.0)), float(labels.get("hold_s", 0.0))
        self._torch = labels.get("torch")
        self._runner = runner

    def close(self) -> None:
        """As the runner."""
        self._runner.close()

    def describe(self, knobs: Iterable[Knobs] = ()) -> Description:
        """As the runner, under the torch of the labels."""
        found = self._runner.describe(knobs)
        if self._torch is None:
            return found
        return found.model_copy(update={"fingerprint": found.fingerprint.model_copy(update={"torch": self._torch})})

    def probe(self, spec: ProbeSpec) -> Outcome:
        """As the runner, each step longer."""
        time.sleep(self._hold_s)
        outcome = self._runner.probe(spec)
        if outcome.step is None or self._slow == 1.0:
            return outcome
        step = outcome.step
        longer = StepTime(
            median_s=step.median_s * self._slow,
            low_s=step.low_s * self._slow,
            high_s=step.high_s * self._slow,
            n_steps=step.n_steps,
        )
        return outcome.model_copy(update={"step": longer})


def simulated_node(name: str, machine: str, **labels: str) -> FleetNode:
    """A node with a simulated machine."""
    return FleetNode(id=name, name=name, labels=(("machine", machine), *labels.items()))
