"""A plan as a batch script for Slurm. A job that is stopped or requeued goes on where it was."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

from compass.errors import printable
from compass.integrations.torchrun import torchrun_command, train_words
from compass.profile import PROFILE_NAME, Profile
from compass.records import Stage, StagePlan
from compass.units import GIB, MIB, format_bytes, format_duration

HOST_SHARE, HOST_BYTES = 0.1, 1 * GIB
"""Host memory asked for beyond a plan's ceiling on a CPU: files that are read stay in the job's page cache."""
LOADER_BYTES = 1 * GIB
"""The same for each loading process."""
TIME_FACTOR, LONGEST_S = 1.5, 24 * 3600.0
"""The time limit: this many times the expected training, at most a day, which most clusters grant."""
WARNING_S = 180
"""How long before the limit the job is told to stop: for the present batch and the checkpoint."""

_SCRIPT = """\
#!/bin/bash
# {stage}: {model}, {batch}; {times}.
# Peak {peak} of {ceiling} in {steps} steps. Written by compass export.
#SBATCH --job-name=compass-{stage}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={cores}
{device}
#SBATCH --time={limit}
#SBATCH --signal=B:USR1@{warning}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=compass-{stage}-{log}.log
{array}##SBATCH --partition=
##SBATCH --account=
set -u
{folder}
run=runs/{stage}-{run}
more=()
if [ -d "$run/checkpoints" ]; then more=(--resume); fi

# Before the time limit Slurm sends USR1: training writes a checkpoint and stops, and the job goes on when it is started again.
# A job that is cancelled stays cancelled.
again=no
trap 'again=yes; kill -TERM "$child"' USR1
{train}{seed} --out "$run" ${{more[@]+"${{more[@]}}"}} &
child=$!
wait "$child"
code=$?
if [ "$again" = yes ]; then  # the signal ended the first wait
  wait "$child"
  code=$?
  if [ "$code" -eq 143 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
fi
exit "$code"
"""

_OF_ONE = {"log": "%j", "run": '"$SLURM_JOB_ID"', "seed": ""}
_OF_ARRAY = {
    "log": "%A-%a",
    "run": '"$SLURM_ARRAY_JOB_ID"-seed"$SLURM_ARRAY_TASK_ID"',
    "seed": ' --set seed="$SLURM_ARRAY_TASK_ID"',
}
"""What differs between a job and a job of an array."""


def slurm_script(profile: Profile, stage: Stage, n_seeds: int = 1) -> str:
    """The batch script that trains the plan of `stage` on one machine of the kind that it was planned on.

    With several seeds it is an array: each of its jobs trains with a seed of its own, from 0, into a folder of its own.

    Raises:
        InputError: there is no such plan.
    """
    plan = profile.plan(stage)
    training_s = plan.training_s or 0.0
    path = profile.path or Path(PROFILE_NAME)
    n_devices, n_nodes = (1, 1) if plan.ranks is None else (plan.ranks.n_devices, plan.ranks.n_nodes)
    return _SCRIPT.format(
        stage=stage,
        model=printable(f"{plan.choice.knobs}"),  # a line end would end the comment
        batch=f"batch {plan.choice.batch_size}",
        times=f"an epoch of {format_duration(plan.epoch_s or 0.0)}, {profile.config.training.epochs} of {format_duration(training_s)}",
        peak=format_bytes(plan.measured.footprint_bytes),
        ceiling=format_bytes(plan.certificate.ceiling_bytes),
        steps=plan.certificate.n_steps,
        nodes=n_nodes,
        cores=n_devices * (plan.runtime.threads + plan.loader_workers),
        device=_device_lines(profile, plan),
        limit=_limit(training_s),
        warning=WARNING_S,
        folder=f"cd {shlex.quote(str(path.resolve().parent))} || exit 1",
        **(_OF_ARRAY if n_seeds > 1 else _OF_ONE),
        array=f"#SBATCH --array=0-{n_seeds - 1}\n" if n_seeds > 1 else "",
        train=_start(profile, stage, str(path.resolve())),
    )


def _start(profile: Profile, stage: Stage, path: str) -> str:
    """What starts the training: `compass train`, which starts the ranks of one machine, or torchrun on each of several."""
    ranks = profile.plan(stage).ranks
    if ranks is None or ranks.n_nodes == 1:
        return train_words(profile, stage, path)
    first = 'export MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"\n'
    return f"{first}srun {torchrun_command(profile, stage, path)}"


def _device_lines(profile: Profile, plan: StagePlan) -> str:
    n_devices = 1 if plan.ranks is None else plan.ranks.n_devices
    if not profile.hardware.on_host:
        number = "one" if n_devices == 1 else str(n_devices)
        return f"#SBATCH --gres=gpu:{n_devices}    # planned on {number} {printable(profile.hardware.name)}: name its type if the cluster has several"
    of_rank = plan.certificate.ceiling_bytes * (1 + HOST_SHARE) + plan.loader_workers * LOADER_BYTES
    n_bytes = HOST_BYTES + n_devices * of_rank
    return f"#SBATCH --mem={math.ceil(n_bytes / MIB)}M"


def _limit(training_s: float) -> str:
    """The time limit as Slurm writes it, `days-hours:minutes:seconds`."""
    wanted_s = min(LONGEST_S, TIME_FACTOR * training_s + 2 * WARNING_S) if training_s else LONGEST_S
    minutes = math.ceil(wanted_s / 60)
    return f"{minutes // 1440}-{minutes % 1440 // 60:02d}:{minutes % 60:02d}:00"
