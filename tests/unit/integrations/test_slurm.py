import os
import signal
import subprocess
import time

import pytest

from compass.integrations.slurm import slurm_script
from compass.profile import write_profile
from compass.records import RuntimeSettings

FAKE_TRAINING = """#!/bin/bash
echo "$@" >> asked
mkdir -p "runs/production-7/checkpoints"
trap 'exit 143' TERM
{work}
"""


@pytest.fixture
def job(profile, tmp_path):
    """Starts the script as Slurm would, with a training that does `work`; the fake commands note what they are asked."""
    plan = profile.plans["prototyping"].model_copy(
        update={"stage": "production", "runtime": RuntimeSettings(threads=2)}
    )
    profile = profile.model_copy(update={"plans": {"production": plan}})
    write_profile(profile, tmp_path / "p.json")

    def start(work: str) -> subprocess.Popen:
        commands = tmp_path / "bin"
        commands.mkdir(exist_ok=True)
        for name, text in (
            ("compass", FAKE_TRAINING.format(work=work)),
            ("scontrol", '#!/bin/bash\necho "$@" >> requeued\n'),
        ):
            (commands / name).write_text(text)
            (commands / name).chmod(0o755)
        script = tmp_path / "job.sh"
        script.write_text(slurm_script(profile, "production"))
        path = f"{commands}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(["bash", str(script)], env={"PATH": path, "SLURM_JOB_ID": "7"})

    return start


def asked(tmp_path):
    return (tmp_path / "asked").read_text().splitlines()


def test_a_job_ends_as_its_training_does(job, tmp_path):
    assert job("exit 0").wait() == 0
    assert job("exit 3").wait() == 3
    train = f"train --stage production --profile {tmp_path}/p.json --dataset YOUR_DATASET --out runs/production-7"
    assert asked(tmp_path) == [train, f"{train} --resume"]  # the second start finds a checkpoint
    assert not (tmp_path / "requeued").exists()


def until_started(tmp_path, n=1):
    limit = time.monotonic() + 20
    while not (tmp_path / "asked").exists() or len(asked(tmp_path)) < n:
        assert time.monotonic() < limit
        time.sleep(0.02)
    time.sleep(0.2)  # its trap is set a moment later


def test_before_its_time_is_over_a_job_stops_and_is_queued_again(job, tmp_path):
    process = job("while true; do sleep 0.05; done")
    until_started(tmp_path)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 143
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"


def test_a_training_that_fails_after_the_signal_is_not_queued_again(job, tmp_path):
    process = job("trap 'exit 3' TERM; while true; do sleep 0.05; done")
    until_started(tmp_path)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 3
    assert not (tmp_path / "requeued").exists()


def test_what_a_job_asks_for(profile):
    plan = profile.plans["prototyping"]
    text = slurm_script(profile.model_copy(update={"plans": {"prototyping": plan}}), "prototyping")
    assert (
        "#SBATCH --cpus-per-task=2\n#SBATCH --mem=5530M\n#SBATCH --time=1-00:00:00\n" in text
    )  # no times in an old profile
    timed = plan.with_times(19_000, 2)
    text = slurm_script(profile.model_copy(update={"plans": {"prototyping": timed}}), "prototyping")
    assert timed.training_s == pytest.approx(2 * 19_000 / 16)
    assert "#SBATCH --time=0-01:06:00\n" in text
    card = profile.hardware.model_copy(update={"kind": "cuda", "device": "cuda:0", "name": "NVIDIA A100"})
    text = slurm_script(profile.model_copy(update={"plans": {"prototyping": timed}, "hardware": card}), "prototyping")
    assert "#SBATCH --gres=gpu:1    # planned on one NVIDIA A100: name its type if the cluster has several\n" in text
    assert "--mem" not in text


def test_an_array_trains_with_a_seed_each(profile, tmp_path):
    write_profile(profile, tmp_path / "p.json")
    script = slurm_script(profile, "prototyping", n_seeds=5)
    assert "#SBATCH --array=0-4\n" in script
    assert "#SBATCH --output=compass-prototyping-%A-%a.log\n" in script
    assert 'run=runs/prototyping-"$SLURM_ARRAY_JOB_ID"-seed"$SLURM_ARRAY_TASK_ID"\n' in script
    assert ' --set seed="$SLURM_ARRAY_TASK_ID" --out "$run"' in script
    assert "--array" not in slurm_script(profile, "prototyping")


def test_seeds_are_for_slurm_alone(tmp_path, profile):
    from typer.testing import CliRunner

    from compass.cli.app import app

    write_profile(profile, tmp_path / "p.json")
    done = CliRunner().invoke(app, ["export", "prototyping", str(tmp_path / "p.json"), "--seeds", "3"])
    assert (done.exit_code, done.stderr) == (
        2,
        "error: --seeds: got format json; expected slurm. Add --format slurm, or leave it out.\n",
    )
