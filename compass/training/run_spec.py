"""What a run is: written into its folder before it starts, read by its processes, compared when it goes on."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Literal

import psutil

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.profile import write_text
from compass.records import Fingerprint, Record, StagePlan
from compass.records.base import digest

ORDER, LOG = "run.json", "training.log"
PATIENCE_S = 600.0
"""How long a process waits for the first one of its machine to scan the data and write the spec."""
SKEW_S = 30.0
"""What the clock of a shared disk may be behind."""


class Amount(Record):
    """How long to train: as many epochs, cycles or seconds; whichever is given, else the configured epochs."""

    epochs: int | None = None
    cycles: float | None = None
    max_time_s: float | None = None

    def gone(self, elapsed_s: float) -> float:
        """The share of the time that is gone; 0 if none was given."""
        return min(1.0, elapsed_s / self.max_time_s) if self.max_time_s else 0.0


class RunSpec(Record):
    """One training run."""

    plan: StagePlan
    workload: str
    config: OptimizerConfig
    """The profile's, with what training itself may change."""
    fingerprint: Fingerprint
    """What the plan was measured on."""
    dataset: str = ""
    """Digest of the complexes with their labels and splits; empty without a dataset."""
    budget_bytes: int
    """What one process may hold in all."""
    ceiling: bool = True
    """Whether the system is to enforce that."""
    batching: Literal["batch_size", "batch_budget"]
    amount: Amount = Amount()
    device: str | None = None
    loader_workers: int = 0
    """Processes that put batches together; 0: the training process itself."""
    n_devices: int = 1
    """On this machine; under torchrun, whatever it says."""
    n_nodes: int = 1
    stale: bool = False
    """Whether a plan that was measured on something else is used all the same."""
    resume: bool = False
    allow_changes: bool = False
    cache: str = ""
    """Folder of the ledger that learns from this run; empty: none does."""
    started_by: str = ""
    """See `this_start`."""

    @property
    def packs(self) -> bool:
        """Whether its batches follow from what is predicted of them, and not from their number of graphs alone."""
        return self.batching == "batch_budget" or self.n_devices * self.n_nodes > 1

    @property
    def identity(self) -> dict[str, object]:
        """What may not change in the middle of a run, by name."""
        training = self.config.training
        return {
            "knobs": str(self.plan.choice.knobs),
            "options": self.plan.choice.knobs.variant.options,
            "batch size": self.plan.choice.batch_size,
            "batching": self.batching,
            "left out": self.plan.certificate.left_out,
            "workload": (self.workload, self.fingerprint.workload),
            "dataset": self.dataset,
            "effective batch": self.config.batch.effective_batch,
            "processes": self.n_devices * self.n_nodes,
            # What the batches of an epoch follow from, beside the seed.
            "laws": digest(self.plan.batch_budget, self.plan.bytes_law, self.plan.step_law) if self.packs else "",
            "amount": self.amount.model_dump_json(),
            "seed": self.config.seed,
            "split": training.split.model_dump_json(),
            "learning": training.model_dump_json(exclude={"split", "keep_last", "checkpoint_s"}),
        }


def write_run_spec(spec: RunSpec, folder: Path) -> Path:
    """Write `order` into `folder`, which is made if need be.

    Raises:
        InputError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"run folder {folder}", got=error.strerror or str(error), expected="a writable folder",
                         fix="Choose another --out.") from error  # fmt: skip
    write_text(spec.model_dump_json(indent=2) + "\n", folder / ORDER)
    return folder / ORDER


def read_run_spec(folder: Path) -> RunSpec:
    """The order in `folder`.

    Raises:
        InputError: there is none, or it is not whole.
    """
    try:
        return RunSpec.model_validate_json((folder / ORDER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"run folder {folder}", got=f"no order that can be read ({type(error).__name__})", fix="Check the path.",
                         expected="the folder of a run") from error  # fmt: skip


def await_run_spec(folder: Path) -> RunSpec:
    """The order that the first process of this machine writes for this start of torchrun.

    Several nodes with an address of their own are called the same at every start: what is older than torchrun's process is an
    earlier start's.

    Raises:
        InputError: it does not come.
    """
    until, since_s = time.monotonic() + PATIENCE_S, psutil.Process(os.getppid()).create_time() - SKEW_S
    while time.monotonic() < until:
        with contextlib.suppress(InputError, OSError):
            spec = read_run_spec(folder)
            if spec.started_by == this_start() and (folder / ORDER).stat().st_mtime >= since_s:
                return spec
        time.sleep(0.2)
    raise InputError(f"run folder {folder}", got="no order", expected="one from the first process of this machine",
                     fix="See what became of that process.")  # fmt: skip


def this_start() -> str:
    """What tells this start of several processes from another; empty for a single process."""
    return ":".join(os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_PORT")).strip(":")
