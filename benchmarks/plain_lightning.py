"""Training with Lightning's defaults, as a careful user writes it: the baseline of `benchmarks.training`.

It uses automatic optimization and a shuffling loader with a fixed batch size; graphs are built beforehand and held in
memory. Optimizer, loss, clipping and precision are those of the plan. It runs in its own process, reads its task from
standard input, and prints its results as a JSON object on the last line.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from pydantic import BaseModel
from torch.utils.data import DataLoader

from compass.optimizer_config import OptimizerConfig
from compass.records import Knobs
from compass.workloads.complexes import collate
from compass.workloads.optimizers import make_optimizer
from compass.workloads.registry import load_workload


class Task(BaseModel):
    """The model, the data and the amount of training."""

    config: OptimizerConfig
    workload: str
    knobs: Knobs
    ids: tuple[str, ...]
    batch_size: int
    n_warm: int
    n_batches: int
    """Timed, after those to get warm."""


class Plain(pl.LightningModule):
    """The model, and the time at which each batch ended."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.workload: Any = load_workload(task.workload, task.config)
        self.model = self.workload.build(task.knobs)
        self.variant, self.rules = task.knobs.variant, task.config.training
        self.ends: list[tuple[float, int]] = []

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        """The loss that plans are measured with."""
        loss: torch.Tensor = self.workload.loss(self.model, batch)
        return loss

    def on_train_batch_end(self, _outputs: Any, batch: Any, _: int) -> None:
        """Record the time."""
        self.ends.append((time.perf_counter(), len(batch.labels)))

    def configure_optimizers(self) -> Any:
        """The optimizer of the plan."""
        return make_optimizer(self.workload, self.model, self.variant, self.rules)


def main(task: Task) -> dict[str, float]:
    """Train and return the speed."""
    torch.manual_seed(task.config.seed)
    module = Plain(task)
    data: Any = module.workload._data  # noqa: SLF001 - a script would have its own
    graphs: Any = [data.graph(name) for name in task.ids]
    batches: Any = DataLoader(graphs, batch_size=task.batch_size, shuffle=True, collate_fn=collate)
    n_steps = task.n_warm + task.n_batches
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=n_steps, max_epochs=-1, gradient_clip_val=module.rules.clip_norm,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, batches)
    started_s = module.ends[task.n_warm - 1][0]
    timed = module.ends[task.n_warm :]
    took_s, n_graphs = timed[-1][0] - started_s, sum(n for _, n in timed)
    return {"graphs_per_s": n_graphs / took_s, "n_graphs": n_graphs, "took_s": took_s}


if __name__ == "__main__":
    print(json.dumps(main(Task.model_validate_json(sys.stdin.read()))))
