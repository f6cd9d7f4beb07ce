"""`compass.optimize_fleet`: plans for every kind of node, and which stage runs best on which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from compass.api.arguments import (
    AnyPath,
    WorkloadSource,
    bytes_of,
    check_count,
    config_of,
    path_of,
    source_of,
    stages_of,
)
from compass.fleet.engines import LOCAL, engine_at, require_extra
from compass.fleet.fleet_file import read_fleet_file
from compass.fleet.optimize import FleetRequest
from compass.fleet.optimize import optimize_fleet as run
from compass.fleet.record import FLEET_FOLDER, read_fleet
from compass.fleet.slurm import optimize_on_slurm, partitions_of
from compass.fleet.table import FleetTable, fleet_table
from compass.optimizer import Request
from compass.optimizer_config import OptimizerConfig
from compass.records import STAGES, Progress, Stage


def optimize_fleet(  # noqa: PLR0913 - all are named
    workload: WorkloadSource = "visnet",
    *,
    address: str = LOCAL,
    slurm: Iterable[str] = (),
    fleet_file: AnyPath | None = None,
    kinds: Iterable[str] = (),
    config: OptimizerConfig | AnyPath | None = None,
    settings: Mapping[str, Any] | None = None,
    stages: Stage | Iterable[Stage] = STAGES,
    dataset: AnyPath | None = None,
    index: AnyPath | None = None,
    dataset_size: int | None = None,
    memory_limit: int | str | None = None,
    device: str | None = None,
    allow_skew: bool = False,
    out: AnyPath = FLEET_FOLDER,
    cache: AnyPath | None = None,
    force: bool = False,
    watch: Callable[[Progress], None] = lambda _: None,
) -> FleetTable:
    """Plan every stage on each kind of node, and return the table of stages and kinds.

    Args:
        workload: the model family to train.
        address: `local` (this machine), `auto`, `ray://HOST:PORT` or `HOST:PORT` of a Ray cluster.
        slurm: partitions of Slurm, in place of an address: a job on one node of each.
        fleet_file: a YAML file with kinds, prices, power and delivery.
        kinds: the kinds to plan for; by default all.
        config: settings, or the path of a file with settings.
        settings: single settings by dotted key.
        stages: the stages to plan.
        dataset: a PDBbind-style folder, or a CSV or Parquet manifest, here and on every node.
        index: the index file of the dataset.
        dataset_size: number of training samples.
        memory_limit: the most that training may use on each node, in bytes or as a size such as `"6GiB"`.
        device: a torch device on every node.
        allow_skew: plan for nodes with other versions of torch as kinds of their own.
        out: folder of the profiles and of `fleet.json`.
        cache: folder of cached probes.
        force: replace profiles of another workload or dataset; copies are kept.
        watch: called with the progress.

    Raises:
        CompassError: an argument cannot be used, nodes lack something, a kind is not there, or no node can be used.
    """
    check_count("dataset_size", dataset_size)
    request = Request(
        config=config_of(config, settings, path=dataset, index=index),
        stages=stages_of(stages),
        workload=source_of(workload),
        device=device,
        memory_limit_bytes=bytes_of(memory_limit),
        dataset_size=dataset_size,
        cache=path_of(cache),
        force=force,
    )
    file = read_fleet_file(path_of(fleet_file))
    asked = FleetRequest(request, file, tuple(kinds), Path(out).expanduser(), allow_skew)
    return _planned(asked, address, tuple(slurm), watch)


def _planned(
    asked: FleetRequest, address: str, partitions: tuple[str, ...], watch: Callable[[Progress], None]
) -> FleetTable:
    if partitions:
        require_extra("submitit", "slurm", "slurm")
        optimize_on_slurm(asked, partitions_of(partitions), watch=watch)
    else:
        with engine_at(address, asked.file.wait_s) as engine:
            run(asked, engine, engine_name=address, watch=watch)
    return fleet_table(*read_fleet(asked.folder))
