"""Ray Core as the engine: an agent is an actor that is pinned to its node and has all of it, so that nothing runs beside a probe."""

from __future__ import annotations

import logging
import queue
import re
import threading
from pathlib import Path
from typing import Any

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from compass.errors import InputError
from compass.fleet.agent import NodeAgent
from compass.fleet.engine import FleetNode, NodeLostError

log = logging.getLogger(__name__)

RAY_CLIENT = "ray://"
_ADDRESS = re.compile(r"auto|(?:ray://)?[A-Za-z0-9_.\-\[\]:]+:\d{1,5}")
NAMESPACE = "compass"
_ENDED_BY_MONITOR = re.compile(r"NODE_OUT_OF_MEMORY|running low on memory|memory usage threshold|memory monitor")
"""What Ray says of an actor that its memory monitor ended. Of any killed one it says that "the OOM killer" may have been it."""
_LOST = (exceptions.RayError, ConnectionError, TimeoutError)
"""What a question to an actor raises if the actor, its node or Ray itself is gone."""


def connect_to_ray(address: str, wait_s: float, agent: type[NodeAgent] = NodeAgent) -> RayEngine:
    """The engine of the cluster at `address`.

    Raises:
        InputError: it is no address, or no cluster answers there within `wait_s`.
    """
    if not _ADDRESS.fullmatch(address):
        raise InputError(
            "--address",
            got=repr(address),
            expected="local, auto, ray://HOST:PORT or HOST:PORT",
            fix="Name the head of a Ray cluster, or leave it out for this machine.",
        )
    engine = RayEngine(address, wait_s, agent)
    engine.join({})
    return engine


def _connect(address: str, environment: dict[str, Any], answer: queue.Queue[BaseException | None]) -> None:
    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            runtime_env=environment,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
        answer.put(error)
    else:
        answer.put(None)


class RayEngine:
    """The nodes of the cluster that this process is connected to."""

    sends_files = True

    def __init__(self, address: str, wait_s: float, agent: type[NodeAgent] = NodeAgent) -> None:
        self._address, self._wait_s, self._agent = address, wait_s, agent

    def join(self, environment: dict[str, Any]) -> None:
        """Connect to the cluster as a job with this runtime environment.

        Ray has no limit of time for it, so it runs in a thread of its own.

        Raises:
            InputError: the cluster does not answer in time, or Ray cannot bring the environment to the nodes.
        """
        answer: queue.Queue[BaseException | None] = queue.Queue()
        threading.Thread(target=_connect, args=(self._address, environment, answer), daemon=True).start()
        try:
            error = answer.get(timeout=self._wait_s)
        except queue.Empty:
            error = TimeoutError(f"no answer within {self._wait_s:.0f} s")
        if error is not None:
            raise InputError(
                f"--address {self._address}",
                got=_first_line(error),
                expected="the address of a running Ray cluster",
                fix="Start one with `ray start --head`, check the address, or use --address local.",
            ) from error

    def send(self, folder: Path) -> None:
        """Make `folder` the working folder of every later agent: Ray takes it with a job alone, so this is a new one."""
        ray.shutdown()
        self.join({"working_dir": str(folder)})

    def nodes(self) -> tuple[FleetNode, ...]:
        """The nodes that are alive and offer work: a head node without cores and cards is none.

        Raises:
            InputError: the cluster does not answer.
        """
        try:
            rows = ray.nodes()
        except (*_LOST, SystemError) as error:
            raise InputError(
                f"--address {self._address}",
                got=f"no answer any more: {_first_line(error)}",
                expected="a running Ray cluster",
                fix="Start it and run the same command again: finished probes are kept.",
            ) from error
        alive = [_node(row) for row in rows if row["Alive"] and _offers(row["Resources"])]
        return tuple(sorted(alive, key=lambda node: (node.name, node.id)))

    def connect(self, node: FleetNode) -> RayLink:
        """An actor on `node`, which has all its cores and cards."""
        labels = dict(node.labels)
        options: dict[str, Any] = {
            "num_cpus": float(labels["cpus"]),
            "num_gpus": float(labels["gpus"]),
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node.id, soft=False),
            "max_restarts": 0,  # the head decides what is done again
            "max_task_retries": 0,
        }
        try:
            actor = ray.remote(self._agent).options(**options).remote(labels)
        except _LOST as error:
            raise NodeLostError(_first_line(error)) from error
        return RayLink(actor)

    def close(self) -> None:
        """Leave the cluster, which ends this process's actors."""
        ray.shutdown()


class RayLink:
    """A link to one actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def ask(self, request_id: str, request: str, *, timeout_s: float) -> str:
        """The actor's answer.

        Raises:
            NodeLostError: the actor or its node ended, or did not answer in time.
            InputError: the node cannot import Compass.
        """
        try:
            return str(ray.get(self._actor.ask.remote(request_id, request), timeout=timeout_s))
        except exceptions.GetTimeoutError as error:
            raise NodeLostError(f"no answer within {timeout_s:.0f} s: it hangs, or is not free") from error
        except exceptions.RuntimeEnvSetupError as error:
            raise InputError(
                "fleet file, runtime_env",
                got=_first_line(error),
                expected="files that Ray can bring to its nodes",
                fix="See the cause in Ray's log, or write `path` and use shared storage.",
            ) from error
        except _LOST as error:
            if "No module named 'compass" in str(error):
                raise InputError(
                    "fleet",
                    got="a node without this version of Compass",
                    expected="Compass with the extra `fleet` on every node",
                    fix="Install it there, or leave that node out of the cluster.",
                ) from error
            raise NodeLostError(why_lost(error)) from error

    def close(self) -> None:
        """Kill the actor. Its workers end with it, because each watches its parent."""
        try:
            ray.kill(self._actor)
        except Exception as error:  # noqa: BLE001 - it is gone already, or the cluster is
            log.debug("the actor was gone: %s", error)


def why_lost(error: BaseException) -> str:
    """Why an actor is lost, in a line. Ray's memory monitor is named, because what it does is no model's out-of-memory."""
    text = str(error)
    if isinstance(error, exceptions.OutOfMemoryError) or _ENDED_BY_MONITOR.search(text):
        return "Ray's memory monitor ended the agent, because the node's memory was nearly full"
    if isinstance(error, exceptions.ActorUnavailableError):
        return "the agent cannot be reached"
    if "node has died" in text or "node was termin" in text:
        return "the node died"
    return "the agent ended" if isinstance(error, exceptions.ActorDiedError) else _first_line(error)


def _node(row: dict[str, Any]) -> FleetNode:
    resources, labels = row["Resources"], row.get("Labels") or {}
    known = {**labels, "cpus": str(resources.get("CPU", 0.0)), "gpus": str(resources.get("GPU", 0.0))}
    name = labels.get("name") or row.get("NodeName") or row["NodeManagerHostname"]
    if name == row.get("NodeManagerAddress"):
        name = row["NodeManagerHostname"]
    return FleetNode(id=row["NodeID"], name=str(name), labels=tuple(sorted(known.items())))


def _offers(resources: dict[str, float]) -> bool:
    return bool(resources.get("CPU") or resources.get("GPU"))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
