"""The agent: the part of Compass that runs on a node. It opens runners there, and each probe keeps its own subprocess.

Requests and answers are JSON text, so that a node with another version of Compass can still say which one it has.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import traceback
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.planning.prober import ignore_progress
from compass.planning.request import Request
from compass.planning.session import build_graphs, local_runner, scanned
from compass.probe.runner import Preparing, Runner
from compass.probe.site import this_host
from compass.records import Knobs, ProbeSpec, Record, RuntimeSettings
from compass.version import __version__

DELIVERED = "delivered://"
"""Begins a path inside the folder that the engine brought to the node, which is the agent's working folder."""
PACKAGES = ("torch", "torch_geometric")
"""Their versions are compared between nodes: figures of one do not hold under another."""

MOST_KEPT = 32
"""Answers that an agent keeps: kinds that share a node, and heads that look for a substitute, ask between two copies of a request."""


class Opening(Record):
    """What a node needs to know to open a runner."""

    workload: str
    config: OptimizerConfig
    """Without a catalogue: each node reads the dataset's, or makes it."""
    device: str | None = None
    limit_bytes: int | None = None


OpenRunner = Callable[[Opening, RuntimeSettings], Runner]


class NodeAgent:
    """Answers a head's requests on one node. A request that comes twice is done once."""

    def __init__(self, labels: Mapping[str, str] | None = None) -> None:
        self.labels = dict(labels or {})
        """What the engine says about this node."""
        self._answered: dict[str, str] = {}
        """The last answers, by the request's id, oldest first."""
        self._runners: dict[str, tuple[str, Runner]] = {}
        """By device: what it was opened for, and the runner."""
        self._ready: dict[str, Opening] = {}

    def ask(self, request_id: str, request: str) -> str:
        """The answer to a request of `compass.fleet.connections`: `{"id": …}` with `ok`, `bad_input` or `error`."""
        if request_id not in self._answered:
            self._answered[request_id] = json.dumps({"id": request_id, **self._answer(json.loads(request))})
            while len(self._answered) > MOST_KEPT:
                del self._answered[next(iter(self._answered))]
        return self._answered[request_id]

    def stop(self) -> None:
        """End every process that it started."""
        for _, runner in self._runners.values():
            runner.close()
        self._runners.clear()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            operation: Callable[..., Any] = getattr(self, f"_{request.pop('op')}")
            return {"ok": operation(**request)}
        except InputError as error:
            return {"bad_input": {name: getattr(error, name) for name in ("where", "got", "expected", "fix")}}
        except Exception:  # noqa: BLE001 - the head decides, and must not wait for an answer in vain
            return {"error": traceback.format_exc()}

    # ------------------------------------------------------------------------------------------------- the operations

    def _survey(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """What is on this node, in plain values: versions, host, devices, and what is missing of `wanted`."""
        return {
            "versions": self.versions(),
            "host": this_host().model_dump(mode="json"),
            "devices": self.devices(wanted["device"]),
            "missing": self.missing(wanted),
        }

    def _describe(self, opening: dict[str, Any], settings: dict[str, Any], knobs: list[dict[str, Any]]) -> Any:
        runner = self._runner(opening, settings)
        return runner.describe([Knobs.model_validate(one) for one in knobs]).model_dump(mode="json")

    def _probe(self, opening: dict[str, Any], settings: dict[str, Any], spec: dict[str, Any]) -> Any:
        return self._runner(opening, settings).probe(ProbeSpec.model_validate(spec)).model_dump(mode="json")

    def _prepare(self, opening: dict[str, Any], settings: dict[str, Any], specs: list[dict[str, Any]]) -> None:
        runner = self._runner(opening, settings)
        if isinstance(runner, Preparing):
            runner.prepare([ProbeSpec.model_validate(one) for one in specs])

    def _close(self, device: str | None) -> None:
        _, runner = self._runners.pop(device or "", ("", None))
        if runner is not None:
            runner.close()

    # ------------------------------------------------------------------------------------------------------ this node

    def versions(self) -> dict[str, str]:
        """Versions of what figures depend on, without loading torch."""
        found = {"compass": __version__, "python": platform.python_version()}
        for name in PACKAGES:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                found[name] = "none"
        return found

    def devices(self, wanted: str | None) -> list[str | None]:
        """The devices to tell apart: the wanted one, each card if they may differ, else the preferred one (None)."""
        n_cards = 0 if wanted else n_different_cards()
        return [f"cuda:{index}" for index in range(n_cards)] if n_cards > 1 else [wanted]

    def missing(self, wanted: dict[str, Any]) -> list[str]:
        """What is not on this node, a phrase each: files by their path, a module by its name, a workload by its content."""
        found = [f"no {what} {path}" for what, path in wanted["paths"] if not here(path).exists()]
        if wanted["workload"]:
            path, expected = here(wanted["workload"]), wanted["workload_digest"]
            if not path.is_file():
                found.append(f"no workload {path}")
            elif file_digest(path) != expected:
                found.append(f"another content of {path}")
        if wanted["module"] and importlib.util.find_spec(wanted["module"]) is None:
            found.append(f"no module {wanted['module']}")
        return found

    def open_runner(self, opening: Opening, settings: RuntimeSettings) -> Runner:
        """A runner of this node's hardware."""
        request = Request(
            config=opening.config,
            workload=opening.workload,
            device=opening.device,
            memory_limit_bytes=opening.limit_bytes,
        )
        return local_runner(request, settings)

    def _runner(self, opening: dict[str, Any], settings: dict[str, Any]) -> Runner:
        """The runner of the opening's device. Another one that was open for it ends first."""
        asked = json.dumps([opening, settings], sort_keys=True)
        device = str(opening["device"] or "")
        known, runner = self._runners.get(device, ("", None))
        if runner is None or known != asked:
            self._close(device)
            runner = self.open_runner(self._with_data(opening), RuntimeSettings.model_validate(settings))
            self._runners[device] = asked, runner
        return runner

    def _with_data(self, opening: dict[str, Any]) -> Opening:
        """The opening with this node's own paths and catalogue; the dataset is scanned and its graphs are built once."""
        key = json.dumps(opening, sort_keys=True)
        if key not in self._ready:
            asked = Opening.model_validate(opening)
            rules = asked.config.dataset
            rules = rules.model_copy(update={"path": local_path(rules.path), "index": local_path(rules.index)})
            config = asked.config.model_copy(update={"dataset": rules})
            request = scanned(Request(config=config, workload=local_path(asked.workload)), ignore_progress)
            build_graphs(request.config, ignore_progress)
            update = {"config": request.config, "workload": request.workload}
            self._ready[key] = asked.model_copy(update=update)
        return self._ready[key]


def n_different_cards() -> int:
    """NVIDIA's cards that this process may use, if they are not all alike; else 1, or 0 without any."""
    try:
        import pynvml

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        names = [str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index))) for index in range(count)]
    except Exception:  # noqa: BLE001 - no driver, or none that answers
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    n_visible = len(names) if visible is None else len([one for one in visible.split(",") if one.strip()])
    return min(n_visible, len(names)) if len(set(names)) > 1 else min(1, n_visible, len(names))


def here(path: str) -> Path:
    """`path` on this node."""
    return Path(local_path(path))


def local_path(text: str) -> str:
    """`text` with the folder that the engine brought in place of `DELIVERED`."""
    return str(Path.cwd() / text.removeprefix(DELIVERED)) if text.startswith(DELIVERED) else text


def file_digest(path: Path) -> str:
    """Sixteen hex digits over the content of a file."""
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
