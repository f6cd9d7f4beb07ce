"""A fleet of a Slurm cluster: a small job for each partition plans on one of its nodes, through submitit."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from compass.errors import InputError
from compass.fleet.connections import Connections
from compass.fleet.fleet_file import FleetFile, KindRules
from compass.fleet.head import Head
from compass.fleet.in_process import InProcessEngine
from compass.fleet.optimize import FleetRequest, fleet_record
from compass.fleet.record import FleetRecord, KindRecord, write_fleet
from compass.fleet.slurm_job import CACHE_IN_JOB, PROFILE_IN_JOB, JobAnswer, JobOrder, PlanOnNode
from compass.planning.prober import Watch, ignore_progress
from compass.planning.session import scanned
from compass.probe.store import LEDGER, Store, default_cache, read_ledger
from compass.profile import read_profile, write_profile
from compass.records import Progress
from compass.version import __version__

log = logging.getLogger(__name__)

SLURM = "slurm"
JOB_MINUTES = 120
"""The time limit of a job: planning takes minutes, and a dataset that is read for the first time an hour."""
POLL_JOBS_S = 2.0
SINFO = ("sinfo", "--noheader", "--format=%R|%a|%c|%G|%D")


@dataclass(frozen=True)
class Partition:
    """A partition of the cluster, which stands for a type of node."""

    name: str
    n_cpus: int
    """Of the smallest of its nodes."""
    n_nodes: int
    gres: str = ""
    """Its generic resources as Slurm writes them, e.g. `gpu:a100:4`; empty without any."""

    @property
    def has_gpu(self) -> bool:
        """Whether its nodes have cards."""
        return self.gres.startswith("gpu")


class Job(Protocol):
    """A job of submitit."""

    @property
    def job_id(self) -> str:
        """Slurm's number of the job."""
        ...

    @property
    def state(self) -> str:
        """As Slurm calls it."""
        ...

    def done(self) -> bool:
        """Whether it has ended."""
        ...

    def result(self) -> Any:
        """What its function returned; raises if there is nothing."""
        ...

    def cancel(self) -> None:
        """Cancel the job, whether it waits or runs."""
        ...


# ------------------------------------------------------------------------------------------------------ the partitions


def partitions_of(names: Sequence[str]) -> tuple[Partition, ...]:
    """The partitions with these names.

    Raises:
        InputError: Slurm is not here or does not answer, or there is no such partition.
    """
    if shutil.which(SINFO[0]) is None:
        raise InputError(
            "--slurm",
            got=f"no command {SINFO[0]}",
            expected="a machine from which jobs are submitted",
            fix="Run this on the cluster's login node.",
        )
    try:
        told = subprocess.run(SINFO, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines() or [str(error)]
        raise InputError(
            "--slurm", got=reason[0], expected="an answer of sinfo", fix="Check that Slurm's controller runs."
        ) from error
    return chosen_partitions(names, read_sinfo(told))


def read_sinfo(text: str) -> dict[str, Partition]:
    """The partitions that are up in an answer of `SINFO`: a line for each group of equal nodes."""
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        name, is_up, cpus, gres, nodes = (part.strip() for part in line.split("|"))
        if is_up != "up":
            continue
        n_cpus, n_nodes = (int(match[0]) if (match := re.match(r"\d+", part)) else 1 for part in (cpus, nodes))
        before = found.get(name)
        gres = "" if gres.startswith("(null") else gres
        found[name] = Partition(
            name,
            min(n_cpus, before.n_cpus) if before else n_cpus,
            n_nodes + (before.n_nodes if before else 0),
            gres or (before.gres if before else ""),
        )
    return found


def chosen_partitions(names: Sequence[str], there: Mapping[str, Partition]) -> tuple[Partition, ...]:
    """Those of `there` with these `names`.

    Raises:
        InputError: one is not there.
    """
    for name in names:
        if name not in there:
            raise InputError(
                "--slurm",
                got=f"the partition {name!r}",
                expected=f"partitions that are up: {', '.join(there) or 'there is none'}",
                fix="Name one or more of them, with commas.",
            )
    return tuple(there[name] for name in dict.fromkeys(names))


def describe_slurm(asked: FleetRequest, partitions: Sequence[Partition]) -> FleetRecord:
    """The partitions as kinds of node; no job is submitted."""
    kinds = []
    for one in partitions:
        name, rules = kind_of(one, asked.file)
        device = one.gres or f"{one.n_cpus} cores"
        kinds.append(_record(name, rules, device=device, nodes=(f"{one.n_nodes} of partition {one.name}",)))
    return fleet_record(asked.file, SLURM, kinds)


def kind_of(partition: Partition, file: FleetFile) -> tuple[str, KindRules]:
    """The kind that `partition` is in the fleet file, else one of its own name."""
    for name, rules in file.kinds.items():
        if partition.name == (rules.partition or name):
            return name, rules
    return partition.name, KindRules()


# ------------------------------------------------------------------------------------------------------------ the jobs


def optimize_on_slurm(
    asked: FleetRequest, partitions: Sequence[Partition], *, cluster: str = SLURM, watch: Watch = ignore_progress
) -> FleetRecord:
    """Plan on one node of each partition, write the profiles and the fleet's record, and return the record.

    `cluster` is submitit's: `slurm`, or `local` for jobs that are processes of this machine.

    Raises:
        InputError: something in the request cannot be used.
    """
    request = scanned(asked.request, watch)
    asked.folder.mkdir(parents=True, exist_ok=True)
    with closing(Store((request.cache or default_cache()) / LEDGER)) as ledger:
        with submitted(asked, partitions, cluster) as jobs:
            wait_for(list(jobs.values()), watch)
            answers = {name: answer_of(job) for name, job in jobs.items()}
        records = [
            _taken_over(asked, *kind_of(one, asked.file), answers[one.name], ledger) for one in partitions
        ]  # fmt: skip
    record = fleet_record(asked.file, SLURM, records)
    write_fleet(record, asked.folder)
    return record


@contextmanager
def submitted(asked: FleetRequest, partitions: Sequence[Partition], cluster: str) -> Iterator[dict[str, Job]]:
    """The job of each partition, by its name. Those that still run are cancelled when the block ends early."""
    import submitit

    jobs: dict[str, Job] = {}
    try:
        for one in partitions:
            name, _ = kind_of(one, asked.file)
            folder = job_folder(asked, name)
            executor = submitit.AutoExecutor(folder=folder / "log", cluster=cluster)
            executor.update_parameters(**job_parameters(one, name))
            jobs[one.name] = executor.submit(PlanOnNode(), _order(asked, folder))
            log.info("%s: job %s on partition %s", name, jobs[one.name].job_id, one.name)
        yield jobs
    except BaseException:
        for job in jobs.values():
            job.cancel()
        raise


def job_parameters(partition: Partition, name: str) -> dict[str, Any]:
    """What submitit asks of Slurm: a whole node, so that nothing else runs beside a timing."""
    asked: dict[str, Any] = {
        "name": f"compass-{name}",
        "timeout_min": JOB_MINUTES,
        "nodes": 1,
        "tasks_per_node": 1,
        "cpus_per_task": partition.n_cpus,
        "slurm_partition": partition.name,
        "slurm_exclusive": True,
        "slurm_mem": "0",
    }
    return {**asked, "slurm_gres": "gpu:1"} if partition.has_gpu else asked


def job_folder(asked: FleetRequest, name: str) -> Path:
    """The folder of a kind's job, with what the head knows already: its ledger answers what was probed before."""
    folder = (asked.folder / "jobs" / name).absolute()
    cache = folder / CACHE_IN_JOB
    cache.mkdir(parents=True, exist_ok=True)
    known = (asked.request.cache or default_cache()) / LEDGER
    if known.exists() and not (cache / LEDGER).exists():
        shutil.copyfile(known, cache / LEDGER)
    return folder


def wait_for(jobs: Sequence[Job], watch: Watch) -> None:
    """Wait until all `jobs` have ended."""
    while not all(job.done() for job in jobs):
        n_done = sum(job.done() for job in jobs)
        states = ", ".join(f"job {job.job_id} {str(job.state).lower()}" for job in jobs if not job.done())
        watch(Progress(phase="calibrate", what=states, n_done=n_done, n_expected=len(jobs)))
        time.sleep(POLL_JOBS_S)


def answer_of(job: Job) -> JobAnswer:
    """What an ended job says; a job without a word is a failure too."""
    try:
        return JobAnswer.model_validate_json(job.result())
    except Exception as error:  # noqa: BLE001 - submitit has an error for every way that a job ends
        words = [line.strip() for line in str(error).splitlines() if line.strip()]
        log.debug("job %s: %s", job.job_id, error)
        failure = (
            f"job {job.job_id} ended without an answer ({str(job.state).lower()}): {words[0] if words else 'no reason'}"
        )
        return JobAnswer(node="unknown", versions={}, failure=failure)


def _order(asked: FleetRequest, folder: Path) -> str:
    head = Head(Connections(InProcessEngine(())), asked.request)
    return JobOrder(
        compass_version=__version__,
        opening=head.opening(asked.request.device),
        wanted=head.wanted(),
        dataset_size=asked.request.dataset_size,
        stages=asked.request.stages,
        folder=str(folder),
    ).model_dump_json()


def _taken_over(
    asked: FleetRequest, name: str, rules: KindRules, answer: JobAnswer, ledger: Store
) -> KindRecord:  # fmt: skip
    """The record of a kind whose job has ended: its probes and its profile are taken over by the head."""
    folder = job_folder(asked, name)
    merge_ledger(folder / CACHE_IN_JOB / LEDGER, ledger)
    file = ""
    if not answer.failure:
        file = f"{name}.json"
        write_profile(read_profile(folder / PROFILE_IN_JOB), asked.folder / file)
    return _record(
        name, rules, device=answer.device, nodes=(answer.node,), file=file, failure=answer.failure, versions=answer.versions
    )  # fmt: skip


def merge_ledger(path: Path, ledger: Store) -> int:
    """Add the probes in the file `path` that `ledger` does not hold as they are; returns how many."""
    if not path.exists():
        return 0
    n_added = 0
    latest = {(fingerprint, spec.key): (spec, outcome) for fingerprint, spec, outcome in read_ledger(path).entries}
    held = {
        fingerprint: {spec.key: outcome for spec, outcome in ledger.under(fingerprint)} for fingerprint, _ in latest
    }
    for (fingerprint, key), (spec, outcome) in latest.items():
        if held[fingerprint].get(key) != outcome:
            ledger.add(fingerprint, spec, outcome)
            n_added += 1
    return n_added


def _record(  # noqa: PLR0913 - each varies on its own
    name: str,
    rules: KindRules,
    *,
    device: str,
    nodes: tuple[str, ...],
    file: str = "",
    failure: str = "",
    versions: Mapping[str, str] = {},
) -> KindRecord:
    return KindRecord(
        name=name,
        device=device or name,
        nodes=nodes,
        versions=dict(versions),
        price_per_hour=rules.price_per_hour,
        power_w=rules.power_w,
        profile=file,
        failure=failure,
    )
