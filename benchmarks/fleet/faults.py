"""Faults in a fleet of simulated kinds, judged: no probe lost or doubled, the profiles of local runs, every fault named."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import queue
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fleet.injecting import InjectingEngine
from compass.errors import InputError
from compass.fleet.connections import Connections
from compass.fleet.engine import FleetEngine, FleetNode
from compass.fleet.fleet_file import FleetFile
from compass.fleet.head import Head
from compass.fleet.in_process import InProcessEngine
from compass.fleet.kinds import group_places
from compass.fleet.optimize import FleetRequest, optimize_fleet
from compass.fleet.pulse import without_slow_first
from compass.fleet.record import read_fleet
from compass.fleet.simulated import SimulatedAgent, simulated_node
from compass.fleet.survey import survey_nodes
from compass.optimizer import optimize
from compass.planning.request import Request
from compass.probe.simulation import MACHINES, SimulatedRunner
from compass.probe.simulation.machines import Machine
from compass.probe.site import Site, this_host
from compass.probe.store import LEDGER, Store, read_ledger
from compass.profile import Profile
from compass.records import Stage

STAGES_RUN: tuple[Stage, ...] = ("smoke_test", "production")
HOLD_S = 0.06
"""Seconds of the real clock that each probe takes, so that it can be interrupted."""
CHANCE = 0.45
"""Of a probe to meet a fault, while there are some left."""
WAIT_S = 120.0
MOMENT_S = 0.2


@dataclass(frozen=True)
class Judged:
    """What became of a run with faults."""

    injected: Counter[str]
    n_probes: int
    n_lost: int
    """Probes of the local runs that the fleet's ledger does not hold."""
    n_doubled: int
    """Lines in the fleet's ledger beyond those of the local runs."""
    n_other_profiles: int
    n_unnamed: int
    """Losses that no note and no message names."""
    wall_s: float


def request_in(folder: Path) -> Request:
    """What every kind is asked for."""
    return Request(cache=folder / "cache", dataset_size=19_000, stages=STAGES_RUN)


def plan_alone(machine: Machine, folder: Path) -> Profile:
    """The profile of one machine without a fleet; its ledger lies in the same cache as those of the others."""
    request = request_in(folder)
    request = Request(**{**vars(request), "out": folder / f"{machine.name}.json"})
    with closing(Store(folder / "cache" / LEDGER)) as store:
        return optimize(request, runner=Site(lambda _: SimulatedRunner(machine), store, this_host()))


def facts(profile: Profile) -> Any:
    """What two equal runs share."""
    unlike: Any = {"created": True, "probe_costs": True, "probe_log": {"__all__": {"wall_s"}}}
    return profile.model_dump(exclude=unlike)


def judged_run(ground: Ground, faults: Sequence[str], machines: Sequence[Machine], folder: Path, seed: int) -> Judged:
    """Plan a fleet under `faults`, and compare everything with local runs."""
    rng = random.Random(seed)
    harming = InjectingEngine(ground.engine, rng.sample(faults, len(faults)), ground.kill_node, rng, CHANCE)
    since_s = time.perf_counter()
    asked = FleetRequest(request_in(folder / "fleet"), FleetFile(wait_s=WAIT_S), folder=folder / "fleet")
    with ThreadPoolExecutor(1) as pool:
        planning = pool.submit(optimize_fleet, asked, harming, engine_name="benchmark")
        while not planning.done():
            ground.mend()
        record = planning.result()
    wall_s = time.perf_counter() - since_s
    _, profiles = read_fleet(asked.folder)
    alone = {machine.name: plan_alone(machine, folder / "alone") for machine in machines}
    by_device = {profile.hardware.name: profile for profile in profiles.values()}
    missing_ones = [name for name in alone if name not in by_device]
    others = [name for name, profile in by_device.items() if facts(profile) != facts(alone[name])]
    lines, expected = (_lines(folder / part / "cache" / LEDGER) for part in ("fleet", "alone"))
    n_losses = sum(harming.injected[fault] for fault in ("agent lost", "answer lost", "node killed"))
    n_named = sum("was lost" in note for kind in record.kinds for note in kind.notes)
    return Judged(
        injected=harming.injected,
        n_probes=harming.n_probes,
        n_lost=(expected - lines).total(),
        n_doubled=(lines - expected).total(),
        n_other_profiles=len(others) + len(missing_ones),
        n_unnamed=max(0, n_losses - n_named),
        wall_s=wall_s,
    )


def _lines(ledger: Path) -> Counter[tuple[str, str]]:
    return Counter((fingerprint, spec.key) for fingerprint, spec, _ in read_ledger(ledger).entries)


# ------------------------------------------------------------------------------------------------------- the engines


@dataclass(frozen=True)
class Ground:
    """Where faults are injected."""

    engine: FleetEngine
    kill_node: Callable[[FleetNode], None]
    """End a node at once, as if its power had failed."""
    mend: Callable[[], None]
    """Start another node for each that was killed, after a moment; only the main thread may, because Ray sets signal handlers."""


@contextmanager
def in_process(machines: Sequence[Machine]) -> Iterator[Ground]:
    """Two nodes for each machine in this process. A node cannot die here."""
    nodes = [simulated_node(f"{m.name} {i}", m.name, hold_s=str(HOLD_S)) for m in machines for i in range(2)]
    yield Ground(InProcessEngine(nodes, SimulatedAgent), lambda _: None, lambda: time.sleep(MOMENT_S))


@contextmanager
def on_ray(machines: Sequence[Machine]) -> Iterator[Ground]:
    """A Ray cluster on this computer with one node for each machine. A killed one is replaced by another."""
    import psutil
    import ray
    from ray.cluster_utils import Cluster

    from compass.fleet.ray_engine import connect_to_ray

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    alive: dict[str, Any] = {}
    killed: queue.Queue[tuple[str, str]] = queue.Queue()

    def add(machine: str, label: str) -> None:
        labels = {"machine": label, "hold_s": str(HOLD_S)}
        node = cluster.add_node(num_cpus=1, object_store_memory=80_000_000, labels=labels)
        alive[node.node_id] = (node, machine, label)

    def kill(node: FleetNode) -> None:
        its, machine, label = alive.pop(node.id)
        for info in its.all_processes.get("raylet", ()):
            for process in psutil.Process(info.process.pid).children(recursive=True):
                process.kill()
        cluster.remove_node(its, allow_graceful=False)
        killed.put((machine, label))

    def mend() -> None:
        with contextlib.suppress(queue.Empty):
            missing = killed.get(timeout=MOMENT_S)
            try:
                add(*missing)
            except Exception:  # noqa: BLE001 - a busy computer starts a node too slowly for Ray
                killed.put(missing)

    try:
        for machine in machines:
            add(machine.name, label_of(machine))
        with closing(connect_to_ray(cluster.address, WAIT_S, SimulatedAgent)) as engine:
            yield Ground(engine, kill, mend)
    finally:
        ray.shutdown()
        cluster.shutdown()


def label_of(machine: Machine) -> str:
    """A word for the machine: Ray's labels hold no spaces."""
    return machine.name.replace(" ", "_")


# ---------------------------------------------------------------------------------------------- faults of other kinds


def slow_nodes(machines: Sequence[Machine], n: int, seed: int) -> int:
    """Of `n` fleets with one slow node among three, how many did not name it and put it last."""
    rng, n_wrong = random.Random(seed), 0
    for trial in range(n):
        machine, factor = machines[trial % len(machines)], rng.uniform(1.5, 4.0)
        slow = rng.randrange(3)
        labels = [{"slow": str(factor)} if index == slow else {} for index in range(3)]
        nodes = [simulated_node(f"n{index}", machine.name, **labels[index]) for index in range(3)]
        with closing(Connections(InProcessEngine(nodes, SimulatedAgent))) as connections:
            head = Head(connections, Request(dataset_size=19_000))
            (kind,) = group_places(survey_nodes(head, allow_skew=False), FleetFile())
            kind, notes = without_slow_first(kind, head)
        n_wrong += [note.split(" ")[0] for note in notes] != [f"n{slow}"] or kind.places[-1].name != f"n{slow}"
    return n_wrong


def absent_kinds(machines: Sequence[Machine], n: int, folder: Path) -> int:
    """Of `n` requests for a kind that is not there, how many did not end in time with its name and what there is."""
    nodes = [simulated_node(machine.name, machine.name) for machine in machines]
    n_wrong, wait_s = 0, 0.2
    for trial in range(n):
        asked = FleetRequest(
            request_in(folder), FleetFile(wait_s=wait_s), kinds=(f"absent-{trial}",), folder=folder / "absent"
        )
        since_s = time.perf_counter()
        try:
            optimize_fleet(asked, InProcessEngine(nodes, SimulatedAgent), engine_name="benchmark")
            n_wrong += 1
        except InputError as error:
            named = f"absent-{trial}" in str(error) and all(machine.name in str(error) for machine in machines[:1])
            n_wrong += not named or time.perf_counter() - since_s > WAIT_S
    return n_wrong


def restarted_heads(machine: Machine, n: int, folder: Path, seed: int) -> tuple[int, int]:
    """(probes lost, doubled) after the head was killed `n` times in a run, and the run was repeated to its end."""
    rng, context = random.Random(seed), multiprocessing.get_context("spawn")
    for _ in range(n):
        head = context.Process(target=_plan_one, args=(machine.name, str(folder / "heads")))
        head.start()
        ledger, before = folder / "heads" / "cache" / LEDGER, _n_lines(folder)
        deadline_s, wanted = time.monotonic() + WAIT_S, before + rng.randint(1, 4)
        while _n_lines(folder) < wanted and head.is_alive() and time.monotonic() < deadline_s:
            time.sleep(0.005)
        head.kill()
        head.join()
    _plan_one(machine.name, str(folder / "heads"))
    plan_alone(machine, folder / "alone-head")
    lines, expected = _lines(ledger), _lines(folder / "alone-head" / "cache" / LEDGER)
    return (expected - lines).total(), (lines - expected).total()


def _n_lines(folder: Path) -> int:
    ledger = folder / "heads" / "cache" / LEDGER
    return ledger.read_bytes().count(b"\n") if ledger.exists() else 0


def _plan_one(machine: str, folder: str) -> None:
    """The head's process."""
    engine = InProcessEngine([simulated_node("one", machine, hold_s=str(HOLD_S))], SimulatedAgent)
    asked = FleetRequest(request_in(Path(folder)), folder=Path(folder))
    optimize_fleet(asked, engine, engine_name="benchmark")


def all_machines(n: int) -> tuple[Machine, ...]:
    """The first `n` simulated machines."""
    return MACHINES[:n]


def as_json(judged: Judged) -> dict[str, Any]:
    """`judged` for the last line."""
    return json.loads(json.dumps({**vars(judged), "injected": dict(judged.injected)}))  # type: ignore[no-any-return]
