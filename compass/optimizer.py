"""The story, top to bottom: calibrate → fit → search → confirm → profile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compass.optimizer_config import OptimizerConfig
from compass.probe.runner import Runner
from compass.profile import Profile
from compass.records import STAGES, Progress, Stage


@dataclass(frozen=True)
class Request:
    """What the user asks for."""

    config: OptimizerConfig = OptimizerConfig()
    stages: tuple[Stage, ...] = STAGES
    workload: str = "visnet"
    device: str | None = None
    memory_limit_bytes: int | None = None
    dataset_size: int | None = None
    out: Path = Path("hardware_profile.json")
    cache: Path | None = None
    """Folder of the probe store; None: the user's cache folder."""


def optimize(
    request: Request, *, runner: Runner | None = None, watch: Callable[[Progress], None] = lambda _: None
) -> Profile:
    """Find and prove a plan for each stage, write the profile after each, and return it."""
    raise NotImplementedError
