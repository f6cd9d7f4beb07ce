"""The job on a node of a Slurm cluster: it plans there with a ledger of its own, which the head merges afterwards."""

from __future__ import annotations

import json
import platform
import traceback
from pathlib import Path
from typing import Any

from compass.errors import CompassError, InputError
from compass.fleet.agent import NodeAgent, Opening
from compass.optimizer import optimize
from compass.planning.request import Request
from compass.records import Record, Stage
from compass.version import __version__


class JobOrder(Record):
    """What a job is to plan, as text that crosses to its node."""

    compass_version: str
    opening: Opening
    wanted: dict[str, Any]
    """What its node must have, as `Head.wanted` says it."""
    dataset_size: int | None
    stages: tuple[Stage, ...]
    folder: str
    """On storage that head and nodes share: the job's profile and its ledger are written there."""


class JobAnswer(Record):
    """What a job leaves, beside the profile in its folder."""

    node: str
    versions: dict[str, str]
    device: str = ""
    """As the vendor calls it."""
    failure: str = ""
    """Why there is no profile, in a sentence."""


PROFILE_IN_JOB = "profile.json"
CACHE_IN_JOB = "cache"


class PlanOnNode:
    """Plans on the node that it is called on. A job that is stopped before its end is requeued, and finds its probes again."""

    def __call__(self, order: str) -> str:
        """The `JobAnswer` to a `JobOrder`, both as JSON. It never raises: what goes wrong is an answer too."""
        agent = NodeAgent()
        answer = JobAnswer(node=platform.node(), versions=agent.versions())
        try:
            device = plan_on_this_node(order, agent)
        except CompassError as error:
            return answer.model_copy(update={"failure": str(error)}).model_dump_json()
        except Exception as error:  # noqa: BLE001 - a bug there is told here
            traceback.print_exc()
            return answer.model_copy(update={"failure": f"{type(error).__name__}: {error}"}).model_dump_json()
        return answer.model_copy(update={"device": device}).model_dump_json()

    def checkpoint(self, order: str) -> Any:
        """What submitit submits again when Slurm stops the job for its time or for another job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, order)


def plan_on_this_node(order: str, agent: NodeAgent) -> str:
    """Plan as `order` says; return the device's name.

    Raises:
        InputError: the node has another Compass, or lacks workload or dataset.
        WorkerError: no probe can be made here.
    """
    version = json.loads(order).get("compass_version")
    if version != __version__:
        raise InputError(
            f"node {platform.node()}",
            got=f"Compass {__version__}",
            expected=f"{version}, as on the machine that submits",
            fix="Install the same version on every node.",
        )
    asked = JobOrder.model_validate_json(order)
    if missing := agent.missing(asked.wanted):
        raise InputError(
            f"node {platform.node()}",
            got=", ".join(missing),
            expected="workload and dataset as on the machine that submits",
            fix="Put them on shared storage.",
        )
    folder = Path(asked.folder)
    request = Request(
        config=asked.opening.config,
        stages=asked.stages,
        workload=asked.opening.workload,
        device=asked.opening.device,
        memory_limit_bytes=asked.opening.limit_bytes,
        dataset_size=asked.dataset_size,
        out=folder / PROFILE_IN_JOB,
        cache=folder / CACHE_IN_JOB,
    )
    return optimize(request).hardware.name
