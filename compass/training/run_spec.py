"""The settings of a training run: written into its folder before it starts, read by its processes, compared on resume."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Literal

import psutil

from compass.checksum import json_with_checksum, json_without_checksum
from compass.errors import InputError
from compass.files import first_of, read_record, write_text
from compass.optimizer_config import OptimizerConfig
from compass.records import Fingerprint, RankShare, Record, StagePlan
from compass.records.base import digest
from compass.records.training import RUN_SPEC, RUN_SPECS

LOG = "training.log"
SPEC_PATIENCE_S = 600.0
"""How long a process waits while the first one on its machine scans the data and writes the settings."""
CLOCK_SKEW_S = 30.0
"""By how much the clock of a shared disk may lag behind."""
_NOT_LEARNING = ("keep_last", "checkpoint_s", "few_updates", "evaluated_train", "loggers", "most_not_finite")
"""Settings of training that change no weight."""


class Amount(Record):
    """How long to train: epochs, cycles or seconds. Without any of them the configured epochs count."""

    epochs: int | None = None
    cycles: float | None = None
    max_time_s: float | None = None

    def continued(self, asked: Amount, default_epochs: int) -> Amount:
        """The amount of a run that began with this one and is resumed with `asked`: this one, unless `asked` is more of it.

        A run that began with none was to take `default_epochs`.

        Raises:
            InputError: `asked` is less, or in another unit.
        """
        wanted = {name: value for name, value in asked if value is not None}
        before = {name: value for name, value in self if value is not None} or {"epochs": default_epochs}
        if not wanted:
            return self
        if before.keys() != wanted.keys() or any(wanted[name] < before[name] for name in before):
            had = ", ".join(f"{_flag(name)} {value:g}" for name, value in before.items())
            raise InputError(
                "--resume",
                got=", ".join(f"{_flag(name)} {value:g}" for name, value in wanted.items()),
                expected=f"at least the {had} that the run was started with",
                fix="Leave it out to go on with the same, give more of it, or pass --allow-changes.",
            )
        return asked

    def elapsed_share(self, elapsed_s: float) -> float:
        """The share of `max_time_s` that is over, at most 1; 0 without a limit."""
        return min(1.0, elapsed_s / self.max_time_s) if self.max_time_s else 0.0


def _flag(name: str) -> str:
    return "--max-time" if name == "max_time_s" else f"--{name}"


class RunSpec(Record):
    """The settings of one training run."""

    plan: StagePlan
    workload: str
    noun: str = ""
    """What the workload's data consist of, in the plural; empty: of complexes, in batches of graphs."""
    config: OptimizerConfig
    """The profile's configuration, with the changes that training allows."""
    fingerprint: Fingerprint
    """Of this machine, and of what the plan was measured on unless `stale`."""
    dataset: str = ""
    """Digest of the complexes with their labels and splits; empty without a dataset."""
    budget_bytes: int
    """The largest footprint of one process."""
    ceiling: bool = True
    """Whether the operating system enforces the budget."""
    batching: Literal["batch_size", "batch_budget"]
    amount: Amount = Amount()
    device: str | None = None
    loader_workers: int = 0
    """Processes that collate batches; 0: the training process does it."""
    n_devices: int = 1
    """Processes on this machine; under torchrun its number."""
    n_nodes: int = 1
    shares: tuple[RankShare, ...] = ()
    """What each rank may hold and how fast it is; empty: all are alike."""
    stale: bool = False
    """Whether a profile from other hardware, versions or data is accepted."""
    resume: bool = False
    allow_changes: bool = False
    profile: str = ""
    """Path of the profile that holds the plan; empty in runs of Compass 0.1."""
    again: str = "compass optimize"
    """The command that plans this stage again, by the same request."""
    cache: str = ""
    """Folder of the ledger that records this run; empty: none."""
    started_by: str = ""
    """See `this_start`."""

    def budget_of(self, rank: int) -> int:
        """The largest footprint of the process of `rank`."""
        return self.shares[rank].budget_bytes if self.shares else self.budget_bytes

    @property
    def packs_by_law(self) -> bool:
        """Whether the members of batches depend on predicted memory or time, not only on a number of graphs."""
        return self.batching == "batch_budget" or self.n_devices * self.n_nodes > 1

    @property
    def identity(self) -> dict[str, object]:
        """The settings that must not change within a run, by name."""
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
            "shares": digest(self.shares) if self.shares else "",
            # Beside the seed, these decide which samples form a batch.
            "laws": digest(self.plan.batch_budget, self.plan.bytes_law, self.plan.step_law)
            if self.packs_by_law
            else "",
            "seed": self.config.seed,
            "split": training.split.model_dump_json(),
            "learning": training.model_dump_json(exclude={"split", *_NOT_LEARNING}),
        }


def write_run_spec(spec: RunSpec, folder: Path) -> Path:
    """Write `spec` into `folder`, which is created if necessary; returns the file's path.

    Raises:
        InputError: the folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"run folder {folder}",
            got=error.strerror or str(error),
            expected="a writable folder",
            fix="Choose another --out.",
        ) from error
    write_text(json_with_checksum(spec.model_dump(mode="json")), folder / RUN_SPEC)
    return folder / RUN_SPEC


def find_run_spec(folder: Path) -> Path | None:
    """The file in `folder` that holds the settings of its run, if there is one."""
    return first_of(folder, RUN_SPECS)


def read_run_spec(folder: Path) -> RunSpec:
    """The settings of the run in `folder`.

    Raises:
        InputError: the folder holds no run, or one that this version cannot read.
    """
    path = find_run_spec(folder)
    if path is None:
        raise InputError(
            f"run folder {folder}", got=f"no {RUN_SPEC}", expected="the folder of a run", fix="Check the path."
        )
    try:
        return RunSpec.model_validate_json(json_without_checksum(read_record(path).decode("utf-8")))
    except (OSError, ValueError) as error:
        why = str(error) if type(error) is ValueError else type(error).__name__
        raise InputError(
            f"run folder {folder}",
            got=f"{path.name}, which cannot be read ({why})",
            expected="the settings of a run by this version of Compass",
            fix="Start a new run in another --out, or resume with --allow-changes.",
        ) from error


def await_run_spec(folder: Path) -> RunSpec:
    """The settings that the first process on this machine writes for this start of torchrun.

    Two starts on nodes with a fixed address have the same name. A file older than torchrun's process therefore belongs to an
    earlier start.

    Raises:
        InputError: the file does not appear within `SPEC_PATIENCE_S`.
    """
    until, since_s = time.monotonic() + SPEC_PATIENCE_S, psutil.Process(os.getppid()).create_time() - CLOCK_SKEW_S
    while time.monotonic() < until:
        with contextlib.suppress(InputError, OSError):
            spec = read_run_spec(folder)
            if spec.started_by == this_start() and (folder / RUN_SPEC).stat().st_mtime >= since_s:
                return spec
        time.sleep(0.2)
    raise InputError(
        f"run folder {folder}",
        got=f"no {RUN_SPEC}",
        expected="one from the first process on this machine",
        fix="Check the log of that process.",
    )


def this_start() -> str:
    """A name for this start of several processes; empty for a single process."""
    return ":".join(os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_PORT")).strip(":")
