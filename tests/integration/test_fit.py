"""A training script that nobody wrote for Compass: five lines more, and a proven plan that its own trainer and Compass's follow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import compass

SCRIPT = """
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.BatchNorm1d(256), torch.nn.ReLU(), torch.nn.Linear(256, 10))

    def training_step(self, batch, _):
        loss = torch.nn.functional.cross_entropy(self.body(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


model, data = Net(), TensorDataset(torch.rand(1001, 64), torch.randint(10, (1001,)))
import compass
profile = compass.fit(model, DataLoader(data, batch_size=32), memory_limit="2GiB", max_batch=40)
batch_size = profile.plan("production").choice.batch_size
trainer = pl.Trainer(callbacks=[compass.FollowPlan(profile, "production")], max_epochs=1, accelerator="cpu", logger=False,
                     enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer.fit(model, DataLoader(data, batch_size=batch_size, drop_last=True))
print("batch", batch_size, "steps", trainer.global_step)
"""


@pytest.mark.slow
def test_from_an_untouched_script_to_a_plan_that_is_followed(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(compass.__file__).parents[1]),
    }

    def run(*command):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done

    assert run("script.py").stdout.splitlines()[-1] == "batch 40 steps 25"
    plan = compass.load_profile(tmp_path / "hardware_profile.json").plan("production")
    assert (plan.choice.knobs.is_fixed, plan.accumulate, plan.least_batch) == (True, 1, 2)
    assert plan.measured.live_bytes == pytest.approx(plan.predicted.live_bytes, rel=0.01)
    # An epoch of 1001 samples in batches of 40 ends with one, which the model cannot be trained on.
    trained = run("-m", "compass", "train", "production", "--epochs", "1", "--out", "run")
    assert "26 batches per epoch, 38.5 graphs each" in trained.stderr.replace("samples", "graphs")
    assert "epoch 1: training loss" in trained.stderr
