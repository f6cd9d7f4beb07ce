"""The head's questions to a node: what it has, what it is, and steps of training on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compass.errors import InputError
from compass.files import MODEL_SUFFIX
from compass.fleet.agent import Opening, file_digest
from compass.fleet.connections import Connections
from compass.fleet.engine import FleetNode
from compass.fleet.kinds import Place
from compass.planning.request import Request
from compass.planning.session import first_settings, without_catalogue
from compass.probe.site import Host
from compass.records import Description, Knobs, Outcome, ProbeSpec, RuntimeSettings

SURVEY_S = 120.0
"""For an answer in plain values, from a node that must first import Compass from a network file system."""
OPEN_S = 6 * 3600.0
"""For the first answer of a runner: a worker starts, and the node reads a large dataset for the first time."""
DESCRIBE_S = 900.0
"""For a later description: a worker's own limits (to start, to describe itself) end before."""
BEYOND_S = 660.0
"""Beyond a probe's own limit: its worker may have to start, twice, and has minutes for that."""


@dataclass(frozen=True)
class Head:
    """A planning request, and the connections by which it is asked of nodes."""

    connections: Connections
    request: Request
    delivered: Mapping[str, str] = field(default_factory=dict)
    """Paths on this machine that the engine brings to the nodes, and where they are found there."""

    def look_at(self, node: FleetNode, *, timeout_s: float = SURVEY_S) -> dict[str, Any]:
        """Versions, host, devices and what is missing on `node`, in plain values: it may have another Compass.

        Raises:
            NodeLostError, InputError, WorkerError: as `Connections.ask`, as do all questions.
        """
        found: dict[str, Any] = self.connections.ask(node, "survey", timeout_s, wanted=self.wanted())
        return found

    def places_of(self, node: FleetNode, found: Mapping[str, Any]) -> tuple[Place, ...]:
        """The devices of `node`, of which it said what is `found` there. Each is opened, described and closed."""
        host = Host.model_validate(found["host"])
        settings = first_settings(self.request.config, host=host)
        places = []
        for device in found["devices"]:
            description = self.describe(node, device, settings, (), timeout_s=OPEN_S)
            self.close(node, device)
            places.append(Place(node, device, found["versions"], host, description))
        return tuple(places)

    def describe(
        self,
        node: FleetNode,
        device: str | None,
        settings: RuntimeSettings,
        knobs: Iterable[Knobs],
        *,
        timeout_s: float = DESCRIBE_S,
    ) -> Description:
        """What the worker on `node` says of itself."""
        asked = [one.model_dump(mode="json") for one in knobs]
        return Description.model_validate(self._ask(node, device, settings, "describe", timeout_s, knobs=asked))

    def probe(self, node: FleetNode, device: str | None, settings: RuntimeSettings, spec: ProbeSpec) -> Outcome:
        """The outcome of `spec` on `node`, in a runner that was opened with `settings`."""
        asked, timeout_s = spec.model_dump(mode="json"), spec.timeout_s + BEYOND_S
        return Outcome.model_validate(self._ask(node, device, settings, "probe", timeout_s, spec=asked))

    def prepare(
        self, node: FleetNode, device: str | None, settings: RuntimeSettings, specs: Iterable[ProbeSpec]
    ) -> None:
        """Let `node` start the workers of `specs`."""
        asked = [one.model_dump(mode="json") for one in specs]
        self._ask(node, device, settings, "prepare", BEYOND_S, specs=asked)

    def close(self, node: FleetNode, device: str | None) -> None:
        """End the runner of `device` on `node`."""
        self.connections.ask(node, "close", SURVEY_S, device=device)

    def _ask(
        self, node: FleetNode, device: str | None, settings: RuntimeSettings, operation: str, timeout_s: float, **asked: Any
    ) -> Any:  # fmt: skip
        opening, under = self.opening(device).model_dump(mode="json"), settings.model_dump(mode="json")
        return self.connections.ask(node, operation, timeout_s, opening=opening, settings=under, **asked)

    def opening(self, device: str | None) -> Opening:
        """What a node needs to know to open a runner for `device`."""
        config = without_catalogue(self.request.config)
        rules = config.dataset
        rules = rules.model_copy(update={name: self._there(getattr(rules, name)) for name in ("path", "index")})
        file, _, name = self.request.workload.rpartition(":")
        workload = f"{self._there(file)}:{name}" if file else self._there(self.request.workload)
        return Opening(
            workload=workload,
            config=config.model_copy(update={"dataset": rules}),
            device=device,
            limit_bytes=self.request.memory_limit_bytes,
        )

    def _there(self, path: str) -> str:
        """Where a path of this machine is found on the nodes."""
        return self.delivered.get(path, path)

    def wanted(self) -> dict[str, Any]:
        """What a node must have, in plain values."""
        rules, bench = self.request.config.dataset, self.request.config.test_bench
        paths = {"dataset": rules.path, "index": rules.index, "protein": bench.protein, "ligand": bench.ligand}
        file = file_of(self.request.workload)
        return {
            "device": self.request.device,
            "paths": [(what, self._there(path)) for what, path in paths.items() if path],
            "workload": self._there(file),
            "workload_digest": digest_here(Path(file)) if file else "",
            "module": "" if file else self.request.workload.rpartition(":")[0].partition(".")[0],
        }


def file_of(workload: str) -> str:
    """The file that `workload` names; empty if it names a family or a module."""
    file = workload if workload.endswith(MODEL_SUFFIX) else workload.rpartition(":")[0]
    return file if file.endswith((".py", MODEL_SUFFIX)) else ""


def digest_here(path: Path) -> str:
    """The content of this machine's own workload file, in short.

    Raises:
        InputError: there is none.
    """
    try:
        return file_digest(path)
    except OSError as error:
        raise InputError(
            f"workload {path}",
            got=error.strerror or str(error),
            expected="a file on this machine",
            fix="Check the path.",
        ) from error
