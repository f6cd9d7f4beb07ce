"""Many simulated runners in one process: the ledger's throughput, the head's memory, and how both grow."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil

from compass.fleet.connections import Connections
from compass.fleet.fleet_file import FleetFile
from compass.fleet.head import Head
from compass.fleet.in_process import InProcessEngine
from compass.fleet.kinds import NodeKind, group_places
from compass.fleet.remote_runner import RemoteRunner, Substitutes
from compass.fleet.simulated import SimulatedAgent, simulated_node
from compass.fleet.survey import survey_nodes
from compass.planning.request import Request
from compass.planning.session import first_settings, wanted_variants
from compass.probe.recorded import Recorded
from compass.probe.requests import micro_probes, synthetic_batches
from compass.probe.simulation import MACHINES
from compass.probe.store import Store, read_ledger
from compass.search.family import follow

SIDE_BY_SIDE = 16
MIB = 1024**2


@dataclass(frozen=True)
class Scale:
    """What so many runners cost."""

    n_runners: int
    n_probes: int
    survey_s: float
    probes_s: float
    lines_per_s: float
    """Of the ledger, each of which is on the disk before the next question."""
    again_s: float
    """The same questions again, all of which the ledger answers."""
    open_s: float
    """To open the ledger in a new head."""
    memory_mib: float
    """Growth of this process, the simulated nodes included."""
    n_doubled: int


def measure_scale(n_runners: int, folder: Path) -> Scale:
    """`n_runners` kinds of one node each make the calibration's first micro-probes side by side, and are asked again."""
    process = psutil.Process()
    before = process.memory_info().rss
    nodes = [
        simulated_node(f"n{index}", MACHINES[index % len(MACHINES)].name, torch=f"simulated {index}")
        for index in range(n_runners)
    ]
    engine, request = InProcessEngine(nodes, SimulatedAgent), Request(dataset_size=19_000)
    path = folder / f"probes-{n_runners}.jsonl"
    with closing(Connections(engine)) as connections, closing(Store(path)) as store:
        head, since_s = Head(connections, request), time.perf_counter()
        kinds = group_places(survey_nodes(head, allow_skew=True), FleetFile())
        survey_s = time.perf_counter() - since_s
        n_probes, probes_s = _pass(head, kinds, store)
        _, again_s = _pass(head, kinds, store)
    memory = process.memory_info().rss - before
    since_s = time.perf_counter()
    Store(path).close()
    open_s = time.perf_counter() - since_s
    entries = read_ledger(path).entries
    n_different = len({(fingerprint, spec.key) for fingerprint, spec, _ in entries})
    return Scale(
        n_runners=n_runners,
        n_probes=n_probes,
        survey_s=survey_s,
        probes_s=probes_s,
        lines_per_s=n_probes / probes_s,
        again_s=again_s,
        open_s=open_s,
        memory_mib=memory / MIB,
        n_doubled=len(entries) - n_different,
    )


def _pass(head: Head, kinds: tuple[NodeKind, ...], store: Store) -> tuple[int, float]:
    """(probes, seconds) of the micro-probes of every kind."""

    def probe(kind: NodeKind) -> int:
        place = kind.places[0]
        config = follow(head.request.config, place.description.family)
        settings = first_settings(config, host=place.host)
        runner = RemoteRunner(head, Substitutes(kind, head, 1.0), settings)
        recorded = Recorded(runner, store, place.description.fingerprint.key)
        specs = micro_probes(
            config.probe, wanted_variants(config)[:1], synthetic_batches(config.probe), settings, n_steps=2
        )
        for spec in specs:
            recorded.probe("calibrate", spec)
        return len(recorded.probes)

    since_s = time.perf_counter()
    with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as pool:
        n_probes = sum(pool.map(probe, kinds))
    return n_probes, time.perf_counter() - since_s
