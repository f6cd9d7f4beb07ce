"""The commands that faults happen to, each with its undisturbed end state."""

from __future__ import annotations

import json
import shutil
import socket
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.faults import rules
from benchmarks.faults.child import Settings
from benchmarks.faults.rules import Finding
from compass.errors import CompassError
from compass.probe.store import LEDGER
from compass.profile import Profile, read_profile
from compass.records import STAGES

PLAIN = tuple(
    part
    for stage in ("prototyping", "validation", "production")
    for part in ("--set", f"stages.{stage}.checkpointing=[false]")
)
"""Half of the calibration."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Target(ABC):
    """A command, its files below `work`, and what must be true of them at the end."""

    name: ClassVar[str]
    cold: ClassVar[bool] = False
    """Whether every start is a new interpreter; otherwise a fork of the harness."""
    chain: ClassVar[int] = 2
    """Faults before the run goes on to its end."""
    visnet: ClassVar[bool] = False
    ends_on_term: ClassVar[int] = 143
    """Its exit code after SIGTERM; the signal itself is right for every command."""
    ends_on_death: ClassVar[frozenset[int]] = frozenset()
    """Exit codes after one of its processes was ended, beside 0."""
    damaged_when_finished: ClassVar[bool] = True
    """Whether files are also damaged after a run has ended: it is made once more then."""
    under_torchrun: ClassVar[bool] = False
    """Whether torchrun's own tracebacks and exit codes hide those of Compass after a fault."""
    has_children: ClassVar[bool] = True
    """Whether it starts other processes."""
    is_slow: ClassVar[bool] = False
    """Whether only signals are tried, because all else is the same for a quicker command."""

    def __init__(self, shared: Path) -> None:
        """`shared` is a folder for what all tries need and none changes."""
        self.shared = shared
        self.work = shared
        self.undisturbed_s = 0.0
        self.expected: Any = None

    def begin(self, work: Path) -> None:
        """Take the empty folder `work` for the next try."""
        self.work = work
        work.mkdir(parents=True, exist_ok=True)

    def environment(self, temporary: Path) -> dict[str, str]:
        """Of its processes; temporary files go to `temporary`."""
        return {**ENVIRONMENT, "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(self.work / "cache"), "COLUMNS": "200"}

    @abstractmethod
    def settings(self, *, again: bool) -> Settings:
        """The command, or with `again` the one that goes on."""

    def way_out(self, damaged: str) -> Settings | None:  # noqa: ARG002
        """The command that the refusal of a damaged file names; None: there is no reason to refuse."""
        return None

    @property
    @abstractmethod
    def damageable(self) -> dict[str, Path]:
        """The files that may be damaged between two starts, by kind."""

    @abstractmethod
    def state(self) -> Any:
        """What is finished now and must not be lost."""

    @abstractmethod
    def judge_fault(self, before: Any) -> Iterator[Finding]:
        """Right after a fault, when everything has ended."""

    @abstractmethod
    def judge_end(self, before: Any, damaged: str) -> Iterator[Finding]:
        """After the run has gone on to its end; `damaged` is the kind of file that was, if any."""

    def remember(self) -> None:
        """Take the files in `work` as those of an undisturbed run."""
        self.expected = self.outcome()

    @abstractmethod
    def outcome(self) -> Any:
        """All that must be as in an undisturbed run."""


# --------------------------------------------------------------------------------------------------------- optimize


class Optimize(Target):
    """`compass optimize` on simulated hardware: two stages."""

    name = "optimize, simulated"
    has_children = False
    stages: ClassVar[str] = "smoke_test,prototyping"
    simulated: ClassVar[bool] = True
    flags: ClassVar[tuple[str, ...]] = PLAIN

    @property
    def profile(self) -> Path:
        """The profile that it writes."""
        return self.work / "out" / "p.json"

    def begin(self, work: Path) -> None:
        """An empty folder for the profile, one for the ledger."""
        super().begin(work)
        self.profile.parent.mkdir(parents=True, exist_ok=True)

    def settings(self, *, again: bool) -> Settings:  # noqa: ARG002 - it is the same command
        """The same command begins and goes on."""
        return Settings(
            ("optimize", "--dataset-size", "19000", "--stages", self.stages, "--out", str(self.profile),
             "--cache", str(self.work / "cache"), *self.flags),
            simulated=self.simulated, cold=self.cold,
        )  # fmt: skip

    @property
    def damageable(self) -> dict[str, Path]:
        """Profile, ledger, Optuna's journal."""
        cache = self.work / "cache"
        return {"profile": self.profile, "ledger": cache / LEDGER, "journal": cache / "optuna_journal.log"}

    def state(self) -> Counter[tuple[str, str]]:
        """The finished probes."""
        return rules.finished_probes(self.work / "cache")

    def judge_fault(self, before: Counter[tuple[str, str]]) -> Iterator[Finding]:
        """No probe is gone, and a profile that is there can be read."""
        yield from rules.lost_probes(before, self.state(), Counter())
        yield from rules.whole_profile(self.profile)

    def judge_end(self, before: Counter[tuple[str, str]], damaged: str) -> Iterator[Finding]:  # noqa: ARG002
        """No probe was made again, and the profile is that of an undisturbed run."""
        usual = Counter() if self.expected is None else self.expected[1]
        yield from rules.lost_probes(before, self.state(), usual)
        if not self.profile.exists():
            yield "profiles", "none"
            return
        yield from rules.whole_profile(self.profile)
        if (found := self.outcome()[0]) != self.expected[0]:
            yield "profiles", f"{found}, expected {self.expected[0]}"

    def outcome(self) -> tuple[Any, Counter[tuple[str, str]]]:
        """(the plans, how often each probe was finished)."""
        try:
            return self.plans(read_profile(self.profile)), self.state()
        except CompassError as error:
            return str(error), self.state()

    def plans(self, profile: Profile) -> Any:
        """All that a simulated machine decides: plans with their figures, failures, settings."""
        return {
            **{stage: plan.model_dump_json() for stage, plan in profile.plans.items()},
            **{stage: failure.model_dump_json() for stage, failure in profile.failures.items()},
            "runtime": tuple(one.model_dump_json() for one in profile.runtime),
        }


class OptimizeToy(Optimize):
    """`compass optimize` with real worker processes and a workload of some linear layers."""

    name = "optimize, workers"
    stages = "smoke_test"
    simulated = False
    has_children = is_slow = True
    ends_on_death = frozenset({1, 3})
    chain = 3
    flags: ClassVar[tuple[str, ...]] = (
        "--workload", f"{Path(__file__).parent / 'toy_workload.py'}:Toy", "--memory-limit", "2GiB",
        "--set", "runtime.threads=1", "--set", "runtime.waiting=sleep", "--set", "stages.smoke_test.allocator=fast",
    )  # fmt: skip

    def plans(self, profile: Profile) -> Any:
        """The stages that have a plan: figures differ from one run to the next."""
        return sorted(profile.plans, key=STAGES.index)


class OptimizeViSNet(OptimizeToy):
    """`compass optimize` with real worker processes and ViSNet."""

    name = "optimize, ViSNet"
    visnet = True
    flags: ClassVar[tuple[str, ...]] = ("--memory-limit", "3GiB", *OptimizeToy.flags[4:])


# ------------------------------------------------------------------------------------------------------------- scan


class Scan(Target):
    """`compass scan` of some dozens of real crops, with two processes that read."""

    name = "scan"
    chain = 4

    def begin(self, work: Path) -> None:
        """The crops are shared, and written once."""
        super().begin(work)
        (work / "out").mkdir(exist_ok=True)
        if not self.manifest.exists():
            write_crops_into(self.manifest.parent, 48)

    @property
    def manifest(self) -> Path:
        """The dataset."""
        return self.shared / "scanned" / "crops.csv"

    def settings(self, *, again: bool) -> Settings:  # noqa: ARG002 - it is the same command
        """The same command begins and goes on."""
        return Settings(
            ("scan", str(self.manifest), "--workers", "2", "--report", str(self.work / "out"), "--cache",
             str(self.work / "cache")), cold=self.cold,
        )  # fmt: skip

    @property
    def damageable(self) -> dict[str, Path]:
        """The catalogue."""
        return {"catalogue": self.catalogue}

    @property
    def catalogue(self) -> Path:
        """Its file."""
        return next(iter((self.work / "cache" / "scans").glob("*.sqlite")), self.work / "none")

    def state(self) -> frozenset[str]:
        """The readings that are stored."""
        import sqlite3
        from contextlib import closing

        if not self.catalogue.exists():
            return frozenset()
        try:
            with closing(sqlite3.connect(self.catalogue)) as db:
                return frozenset(key for (key,) in db.execute("SELECT key FROM results"))
        except sqlite3.Error:
            return frozenset()

    def judge_fault(self, before: frozenset[str]) -> Iterator[Finding]:
        """No stored reading is gone."""
        if gone := before - self.state():
            yield "lost", f"{len(gone)} of {len(before)} readings"

    def judge_end(self, before: frozenset[str], damaged: str) -> Iterator[Finding]:
        """Every complex is there once, with the same atoms; stored readings were not read again."""
        from compass.data.scan.catalogue import Catalogue

        try:
            found, about = self.outcome(), Catalogue.open(self.catalogue).about
        except (CompassError, OSError) as error:
            yield "tables", str(error)
            return
        if found != self.expected:
            yield "tables", "other rows, atoms or reports than in an undisturbed scan"
        if not damaged and about.n_known < len(before):
            yield "lost", f"{len(before)} readings were stored, {about.n_known} were known"

    def outcome(self) -> Any:
        """The rows, the atoms and the report."""
        from compass.data.scan.catalogue import Catalogue

        catalogue = Catalogue.open(self.catalogue)
        atoms = [catalogue.complex(row.id) for row in catalogue.usable]
        return (
            catalogue.rows,
            [(one.elements.tobytes(), one.positions.tobytes(), one.is_ligand.tobytes()) for one in atoms],
            (self.work / "out" / "scan.jsonl").read_bytes(),
        )


def write_crops_into(folder: Path, n: int) -> Path:
    """`n` crops of real proteins, and their manifest."""
    import numpy as np

    from benchmarks.real_crops import write_crops

    folder.mkdir(parents=True)
    return write_crops(folder, np.linspace(3.0, 6.0, n))


# ------------------------------------------------------------------------------------------------------------ train


class Train(Target):
    """`compass train` of a ViSNet of two layers and 16 channels: one process."""

    name = "train"
    visnet = True
    has_children = False
    damaged_when_finished = False
    epochs: ClassVar[int] = 10
    ranks: ClassVar[int] = 1
    loader_workers: ClassVar[int] = 0

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.work / "out" / "run"

    @property
    def profile(self) -> Path:
        """The profile with its plan."""
        return self.work / "out" / "p.json"

    def begin(self, work: Path) -> None:
        """The crops are shared; so are their catalogue and graphs, once there are some."""
        super().begin(work)
        self.profile.parent.mkdir(parents=True, exist_ok=True)
        crops, cache = self._crops, self.shared / "trained-cache"
        if not crops.exists():
            write_crops_into(crops, 12)
        if cache.exists():
            shutil.copytree(cache, self.work / "cache")
        self._write_profile()

    @property
    def _crops(self) -> Path:
        return self.shared / "trained"

    def _write_profile(self) -> None:
        from benchmarks.faults.tiny_plan import tiny_profile
        from compass.config_files import load_config
        from compass.profile import write_profile

        config = load_config(
            None,
            [f"dataset.path={self._crops / 'crops.csv'}", "dataset.oversize_share=0", "batch.effective_batch=6",
             "cycle_batches=10", "training.checkpoint_s=0.0001", "training.dropout=0.1"],
        )  # fmt: skip
        write_profile(tiny_profile(config, loader_workers=self.loader_workers), self.profile)

    def remember(self) -> None:
        """Keep the catalogue and the graphs too."""
        super().remember()
        if not (kept := self.shared / "trained-cache").exists():
            shutil.copytree(self.work / "cache", kept)

    def settings(self, *, again: bool) -> Settings:
        """The command, with `--resume` if there is a run to go on with."""
        resume = ("--resume",) if again and (self.folder / "run.json").exists() else ()
        return self._settings(*resume)

    def way_out(self, damaged: str) -> Settings | None:
        """As the refusals name it; a damaged profile is made again."""
        if damaged == "profile":
            self._write_profile()
            return self.settings(again=True)
        return self._settings("--restart")

    def _settings(self, *flags: str) -> Settings:
        return Settings(
            ("train", "--stage", "prototyping", "--profile", str(self.profile), "--out", str(self.folder), "--epochs",
             str(self.epochs), "--cache", str(self.work / "cache"), *flags),
            on_this_machine=True, ranks=self.ranks, port=_free_port() if self.ranks > 1 else 0, cold=self.cold,
        )  # fmt: skip

    @property
    def damageable(self) -> dict[str, Path]:
        """All that a resumed run reads."""
        checkpoints = sorted((self.folder / "checkpoints").glob("batch-*.ckpt"))
        scans = self.work / "cache" / "scans"
        return {
            "checkpoint": checkpoints[-1] if checkpoints else self.work / "none",
            "best model": self.folder / "checkpoints" / "best.ckpt",
            "run.json": self.folder / "run.json",
            "tables": self.folder / "epochs.csv",
            "results": self.folder / "results.json",
            "catalogue": next(iter(scans.glob("*.sqlite")), self.work / "none"),
            "graph store": next(iter(scans.glob("*.graphs")), self.work / "none"),
            "profile": self.profile,
        }

    def state(self) -> int:
        """The batches behind the newest checkpoint."""
        found = sorted((self.folder / "checkpoints").glob("batch-*.ckpt"))
        return int(found[-1].stem.removeprefix("batch-")) if found else 0

    def judge_fault(self, before: int) -> Iterator[Finding]:
        """Checkpoints are not lost, and the newest can be read."""
        from compass.training.checkpoints import Checkpoints

        if self.state() < before:
            yield "lost", f"the checkpoint of batch {before}; the newest is of {self.state()}"
        checkpoints = Checkpoints(self.folder / "checkpoints", 2)
        if not checkpoints.is_empty and checkpoints.newest() is None:
            yield "weights", "no checkpoint can be read"

    def judge_end(self, before: int, damaged: str) -> Iterator[Finding]:  # noqa: ARG002
        """Weights, tables and predictions are those of an undisturbed run."""
        try:
            found = self.outcome()
        except (AssertionError, CompassError, LookupError, OSError, TypeError, ValueError) as error:
            yield "weights", f"{type(error).__name__}: {error}"
            return
        if found["weights"] != self.expected["weights"]:
            yield "weights", "other weights, optimizer state or best model than in an undisturbed run"
        for name in ("epochs", "predictions", "results"):
            if found[name] != self.expected[name] and not (damaged == "tables" and name == "epochs"):
                yield "tables", f"{name}: {found[name]!r:.600}, expected {self.expected[name]!r:.600}"
        if problem := _cycles_problem(self.folder / "cycles.csv", found["n_batches"]):
            yield "tables", problem

    def outcome(self) -> dict[str, Any]:
        """Weights, tables, predictions, results."""
        from compass.training.checkpoints import Checkpoints, read_checkpoint

        newest = Checkpoints(self.folder / "checkpoints", 2).newest()
        assert newest is not None  # noqa: S101 - the run ended well
        results = json.loads((self.folder / "results.json").read_text())
        return {
            "weights": _digest(
                [
                    newest["model"],
                    newest["optimizer"],
                    read_checkpoint(self.folder / "checkpoints" / "best.ckpt")["model"],
                ]
            ),
            "epochs": (self.folder / "epochs.csv").read_text().splitlines(),
            "predictions": (self.folder / "predictions.csv").read_text().splitlines(),
            "results": [results["finished"], results["evaluations"], results["verdict"]],
            "n_batches": results["at"]["n_batches"],
        }


class TrainLoaders(Train):
    """The same with two processes that collate batches."""

    name = "train, loaders"
    has_children = is_slow = True
    loader_workers = 2
    ends_on_death = frozenset({1})


class TrainRanks(Train):
    """The same with two ranks under torchrun's agent, which talk by gloo."""

    name = "train, two ranks"
    has_children = is_slow = True
    ranks = 2
    epochs = 6
    under_torchrun = True


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _digest(content: Any) -> str:
    """Of nested values with tensors, bit for bit."""
    import hashlib

    import torch

    found = hashlib.sha256()

    def add(value: Any) -> None:
        if torch.is_tensor(value):
            found.update(value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key, item in value.items():
                found.update(str(key).encode())
                add(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                add(item)
        else:
            found.update(repr(value).encode())

    add(content)
    return found.hexdigest()


def _cycles_problem(path: Path, n_batches: int) -> str:
    """What is wrong with the table of cycles; empty if nothing is: one row a cycle, in order, up to the last batch."""
    import csv

    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    numbers, ends = [int(row["number"]) for row in rows], [int(row["ends_at"]) for row in rows]
    in_order = numbers == list(range(1, len(rows) + 1)) and ends == sorted(set(ends))
    return "" if in_order and ends[-1:] == [n_batches] else f"cycles {numbers} end at {ends} of {n_batches} batches"
