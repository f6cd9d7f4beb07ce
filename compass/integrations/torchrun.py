"""A plan as a command for torchrun, which starts a process for each device."""

from __future__ import annotations

import shlex
from pathlib import Path

from compass.commands import command
from compass.profile import PROFILE_NAME, Profile
from compass.records import Stage

RENDEZVOUS = '"${MASTER_ADDR:?the address of the first machine}:${MASTER_PORT:-29500}"'
"""Where machines meet. 29500 is torchrun's own default."""


def torchrun_script(profile: Profile, stage: Stage) -> str:
    """The lines that train the plan of `stage` under torchrun, to be run on each machine.

    Raises:
        InputError: there is no such plan.
    """
    n_ranks = profile.plan(stage).n_ranks
    path = (profile.path or Path(PROFILE_NAME)).resolve()
    return f"#!/bin/sh\n# {stage}: {n_ranks} rank{'s'[: n_ranks != 1]}. Written by compass export.\nset -eu\ncd {shlex.quote(str(path.parent))}\nexec {torchrun_command(profile, stage, str(path))}\n"


def torchrun_command(profile: Profile, stage: Stage, path: str) -> str:
    """`torchrun … -m compass train …` for the plan of `stage` in the profile at `path`."""
    ranks = profile.plan(stage).ranks
    n_devices, n_nodes = (1, 1) if ranks is None else (ranks.n_devices, ranks.n_nodes)
    several = f"--nnodes {n_nodes} --rdzv-backend c10d --rdzv-endpoint {RENDEZVOUS} --rdzv-id compass-{stage}"
    meeting = several if n_nodes > 1 else "--standalone"
    return f"torchrun {meeting} --nproc-per-node {n_devices} -m {train_words(profile, stage, path)}"


def train_words(profile: Profile, stage: Stage, path: str) -> str:
    """`compass train …` for the plan of `stage` in the profile at `path`."""
    flags = {
        "--stage": stage,
        "--profile": path,
        "--dataset": "" if profile.asked.dataset else "YOUR_DATASET",
        "--workload": profile.workload if ":" in profile.workload else "",
    }
    return command("train", flags)
