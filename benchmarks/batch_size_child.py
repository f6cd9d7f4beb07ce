"""One finder of batch sizes in its own process, under a ceiling; `benchmarks.batch_size` starts it.

    python -m benchmarks.batch_size_child '<order as JSON>'

It trains Compass's ViSNet, with Compass's training step where the finder accepts one. The ceiling leaves the same memory
above the idle process as for Compass's worker, so the memory of a finder's libraries does not count against it. After
every step, the tally goes to standard output as a line of JSON, so that it survives the process.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import IO, Any

import numpy as np
import torch

from compass.device import Meter, detect, meter_for
from compass.optimizer_config import OptimizerConfig
from compass.probe.failures import classify
from compass.records import Batch, Knobs, Record, Status, device_kind
from compass.workloads.complexes import GraphBatch
from compass.workloads.optimizers import make_optimizer
from compass.workloads.registry import load_workload
from compass.workloads.step import on_device, training_step

DATASET_SIZE = 19_000
"""Copies of the sample that a finder may draw from: the data must not bind."""
LIGHTNING_START = 2
ACCELERATE_START = 128
"""Both finders' documented defaults."""
POLYFIT_SIZES = (1, 2, 4, 8, 16)
POLYFIT_SHARE = 0.6
"""Of the free memory, a margin of 40 %."""


class RunSpec(Record):
    """What the parent asks for."""

    finder: str
    config: OptimizerConfig
    knobs: Knobs
    device: str
    room_bytes: int
    """Above the idle process."""
    n_steps: int
    """Of a training run whose length the finder leaves to its caller."""


class Tally:
    """The workload as finders use it, with counts of their steps and failures."""

    def __init__(self, order: RunSpec, answers: IO[str]) -> None:
        self.order = order
        self._answers = answers
        self.workload = load_workload("visnet", order.config)
        sample = next(iter(self.workload.samples()))
        self._one: GraphBatch = on_device(self.workload.collate(Batch(members=((sample, 1),))), order.device)
        self.n_steps = self.n_out_of_memory = 0
        self.tried: list[int] = []
        self._started = time.perf_counter()

    def start(self) -> None:
        """The clock starts when everything is loaded."""
        self._started = time.perf_counter()

    def build(self) -> torch.nn.Module:
        """A fresh model."""
        torch.manual_seed(self.order.config.seed)
        return self.workload.build(self.order.knobs).train().to(self.order.device)

    def batch(self, n_graphs: int) -> GraphBatch:
        """`n_graphs` copies of the sample."""
        if not self.tried or self.tried[-1] != n_graphs:
            self.tried.append(n_graphs)
        with self.counted():
            return copies(self._one, n_graphs)

    def step(self, model: torch.nn.Module, optimizer: Any, batch: GraphBatch) -> None:
        """Our training step."""
        with self.counted():
            training_step(self.workload, model, optimizer, batch, self.order.knobs.variant, self.order.config.training)
        self.done()

    def warm_up(self) -> None:
        """Load the libraries' kernels before the ceiling is set, because a probe's ceiling counts them too."""
        knobs = self.order.knobs.model_copy(update={"layers": 2, "channels": 16})
        model = self.workload.build(knobs).train().to(self.order.device)
        rules = self.order.config.training
        training_step(
            self.workload,
            model,
            make_optimizer(self.workload, model, knobs.variant, rules),
            self._one,
            knobs.variant,
            rules,
        )

    def done(self) -> None:
        """Count a completed step."""
        self.n_steps += 1
        self.say()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count out-of-memory errors raised inside, and pass them on."""
        try:
            yield
        except Exception as error:
            if classify(error)[0] is Status.OUT_OF_MEMORY:
                self.n_out_of_memory += 1
                self.say()
            raise

    def say(self, **more: Any) -> None:
        """Write the tally so far for the parent."""
        found = {
            "steps": self.n_steps,
            "out_of_memory": self.n_out_of_memory,
            "seconds": round(time.perf_counter() - self._started, 2),
            "tried": self.tried,
        }
        self._answers.write(json.dumps(found | more) + "\n")
        self._answers.flush()


def copies(one: GraphBatch, n: int) -> GraphBatch:
    """`n` copies of a batch of one graph, disconnected, by torch alone.

    Compass's collation uses NumPy, whose out-of-memory exception most finders do not know. PyG's uses torch, as most
    users' code does.
    """
    n_nodes, n_edges = len(one.kinds), one.edge_index.shape[1]
    shift = torch.arange(n).repeat_interleave(n_edges) * n_nodes
    return GraphBatch(
        kinds=one.kinds.repeat(n),
        positions=one.positions.repeat(n, 1),
        readout=one.readout.repeat(n),
        graph_of=torch.arange(n).repeat_interleave(n_nodes),
        edge_index=one.edge_index.repeat(1, n) + shift,
        labels=one.labels.repeat(n),
        bounds=one.bounds.repeat(n),
    )


# ------------------------------------------------------------------------------------------------------ the finders


def lightning(tally: Tally, mode: str) -> int | None:
    """`Tuner.scale_batch_size` with its defaults: three steps in each trial, a margin of 5 % in `binsearch`."""
    pl: Any = importlib.import_module("pytorch_lightning")
    tuning: Any = importlib.import_module("pytorch_lightning.tuner")

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False  # the step is ours
            self.model = tally.build()
            self.batch_size = LIGHTNING_START

        def training_step(self, batch: GraphBatch, _: int) -> None:
            tally.step(self.model, self.optimizers(), batch)

        def configure_optimizers(self) -> Any:
            return make_optimizer(tally.workload, self.model, tally.order.knobs.variant, tally.order.config.training)

        def train_dataloader(self) -> Any:
            dataset: Any = range(DATASET_SIZE)
            return torch.utils.data.DataLoader(
                dataset, batch_size=self.batch_size, collate_fn=lambda items: tally.batch(len(items))
            )

    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator=device_kind(tally.order.device).lightning_accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            max_epochs=1,
            default_root_dir=folder,
        )
        found = tuning.Tuner(trainer).scale_batch_size(Module(), mode=mode, init_val=LIGHTNING_START)
    return None if found is None else int(found)


def accelerate(tally: Tally) -> int:
    """`find_executable_batch_size`, from its documented start downwards, around a short training run."""
    memory: Any = importlib.import_module("accelerate.utils.memory")

    def train(batch_size: int) -> int:
        model = tally.build()
        optimizer = make_optimizer(tally.workload, model, tally.order.knobs.variant, tally.order.config.training)
        batch = tally.batch(batch_size)
        for _ in range(tally.order.n_steps):
            tally.step(model, optimizer, batch)
        return batch_size

    return int(memory.find_executable_batch_size(train, starting_batch_size=ACCELERATE_START)())


class CountedLoss:
    """A loss that counts its backward passes; batch-finder calls no other method of it."""

    def __init__(self, tally: Tally, loss: torch.Tensor) -> None:
        self._tally, self._loss = tally, loss

    def backward(self) -> None:
        """The whole step is forward and backward, because this finder has no optimizer."""
        with self._tally.counted():
            self._loss.backward()  # type: ignore[no-untyped-call]
        self._tally.done()


class Output:
    """The output from which batch-finder takes the loss."""

    def __init__(self, loss: CountedLoss) -> None:
        self.loss = loss


class ByRows(torch.nn.Module):
    """Compass's model behind a tensor with one row for each graph, because batch-finder changes the size of tensors."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.model = tally.build()
        self._tally = tally

    def forward(self, x: torch.Tensor) -> Output:
        """The loss on as many copies of the sample as `x` has rows."""
        batch = self._tally.batch(len(x))
        with self._tally.counted():
            return Output(CountedLoss(self._tally, self._tally.workload.loss(self.model, batch)))


def rows_model() -> torch.nn.Module:
    """At the top level, because batch-finder sends it to the processes that it spawns."""
    return ByRows(this_tally())


def batch_finder(_: Tally) -> int | None:
    """`find_max_minibatch` with its defaults: each trial is one forward and backward pass."""
    finder: Any = importlib.import_module("batch_finder")
    shape = finder.find_max_minibatch(rows_model, input_shapes=(-1, 1), forward_params=["x"])
    return None if shape is None else int(shape[0])


def polyfit(tally: Tally, meter: Meter) -> int | None:
    """A straight line through the memory of a few small batches, up to 60 % of the free memory.

    Written from a description of Ultralytics' AutoBatch, not from its source. If the line's answer is at or beyond a
    batch that failed, the largest batch that ran is returned.
    """
    baseline_bytes = meter.footprint_bytes()
    model = tally.build()
    optimizer = make_optimizer(tally.workload, model, tally.order.knobs.variant, tally.order.config.training)
    ran: list[tuple[int, int]] = []
    failed: list[int] = []
    for n_graphs in POLYFIT_SIZES:
        meter.reset_peak()
        try:
            tally.step(model, optimizer, tally.batch(n_graphs))
        except Exception as error:
            if classify(error)[0] is not Status.OUT_OF_MEMORY:
                raise
            failed.append(n_graphs)
            break
        ran.append((n_graphs, meter.footprint_bytes() - baseline_bytes))
    if len(ran) < 2:  # no line
        return ran[0][0] if ran else None
    slope, intercept = np.polyfit([n for n, _ in ran], [n_bytes for _, n_bytes in ran], deg=1)
    found = int((POLYFIT_SHARE * tally.order.room_bytes - intercept) / slope)
    return ran[-1][0] if failed and found >= failed[0] else max(1, found)


MODULES = {
    "lightning": "pytorch_lightning.tuner",
    "accelerate": "accelerate.utils.memory",
    "batch_finder": "batch_finder",
}
"""Imported before the ceiling is imposed."""


def finder_of(order: RunSpec, tally: Tally, meter: Meter) -> Callable[[], int | None]:
    """The finder that `order` names."""
    finders: dict[str, Callable[[], int | None]] = {
        "lightning power": lambda: lightning(tally, "power"),
        "lightning binsearch": lambda: lightning(tally, "binsearch"),
        "accelerate": lambda: accelerate(tally),
        "batch_finder": lambda: batch_finder(tally),
        "polyfit": lambda: polyfit(tally, meter),
    }
    return finders[order.finder]


@cache
def this_tally() -> Tally:
    """This process's tally, the only writer to the original standard output."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return Tally(RunSpec.model_validate_json(sys.argv[1]), answers)


def main() -> None:
    """Load everything, impose the ceiling, and let the finder find."""
    tally = this_tally()
    order = tally.order
    module = MODULES.get(order.finder.split()[0])
    if module:
        importlib.import_module(module)
    hardware = detect(order.device, limit_bytes=None, reserve_share=0.0)
    meter = meter_for(order.device, hardware)
    find = finder_of(order, tally, meter)
    tally.warm_up()
    meter.reset_peak()
    ceiling = meter.ceiling(meter.footprint_bytes() + order.room_bytes)
    with ceiling:
        tally.start()
        tally.say()
        try:
            batch_size = find()
        except Exception as error:  # noqa: BLE001 - the parent reports whatever a finder does
            tally.say(failed=f"{type(error).__name__}: {error}"[:300])
        else:
            tally.say(batch=batch_size)


if __name__ == "__main__":
    main()
