"""The story of a fleet: survey the nodes → form kinds → plan each kind → one profile a kind, and a table."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from compass.errors import CompassError
from compass.fleet.connections import Connections
from compass.fleet.delivery import delivering
from compass.fleet.engine import FleetEngine
from compass.fleet.fleet_file import FleetFile
from compass.fleet.head import Head
from compass.fleet.kinds import NodeKind
from compass.fleet.pulse import without_slow_first
from compass.fleet.record import FLEET_FOLDER, FleetRecord, KindRecord, write_fleet
from compass.fleet.remote_runner import RemoteRunner, Substitutes
from compass.fleet.telling import kind_named, one_at_a_time
from compass.fleet.waiting import wait_for_kinds
from compass.optimizer import optimize
from compass.planning.prober import Watch, ignore_progress
from compass.planning.request import Request
from compass.planning.session import scanned
from compass.probe.site import Site
from compass.probe.store import LEDGER, Store, default_cache
from compass.version import __version__

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FleetRequest:
    """What the user asks for of a fleet."""

    request: Request
    """The same for every kind; its `out` is not used."""
    file: FleetFile = field(default_factory=FleetFile)
    kinds: tuple[str, ...] = ()
    """Those to plan for; none: all that are there, and all that the fleet file names."""
    folder: Path = FLEET_FOLDER
    allow_skew: bool = False


def optimize_fleet(asked: FleetRequest, engine: FleetEngine, *, engine_name: str, watch: Watch = ignore_progress) -> FleetRecord:  # fmt: skip
    """Plan every kind of node, write its profile and the fleet's record into the folder, and return the record.

    A kind that cannot be planned does not stop the others: its record has the reason.

    Raises:
        InputError: something in the request cannot be used, nodes lack something, or a kind is not there.
        WorkerError: no node can be used.
    """
    watch = one_at_a_time(watch)
    request = scanned(asked.request, watch)
    with surveyed(replace(asked, request=request), engine) as (head, kinds):
        asked.folder.mkdir(parents=True, exist_ok=True)
        with closing(Store((request.cache or default_cache()) / LEDGER)) as ledger:
            one = KindPlanner(asked, head, ledger, watch)
            records = plan_each(one, kinds)
        record = fleet_record(asked.file, engine_name, records)
        write_fleet(record, asked.folder)
    return record


def describe_fleet(asked: FleetRequest, engine: FleetEngine, *, engine_name: str) -> FleetRecord:
    """The kinds of node that are there, without any profile; nothing is measured or written.

    Raises:
        InputError, WorkerError: as `optimize_fleet`.
    """
    with surveyed(replace(asked, request=scanned(asked.request, ignore_progress)), engine) as (_, kinds):
        return fleet_record(asked.file, engine_name, [kind_record(kind) for kind in kinds])


@contextmanager
def surveyed(asked: FleetRequest, engine: FleetEngine) -> Iterator[tuple[Head, tuple[NodeKind, ...]]]:
    """The head's side, and the kinds that the user wants. All agents end with the block, however it ends."""
    with closing(Connections(engine)) as connections, delivering(asked.request, asked.file, engine) as delivered:
        head = Head(connections, asked.request, delivered)
        yield head, wait_for_kinds(head, asked.file, asked.kinds, allow_skew=asked.allow_skew)


def plan_each(planner: KindPlanner, kinds: Sequence[NodeKind]) -> list[KindRecord]:
    """The records of all `kinds`, which are planned side by side, each in one thread of its own."""
    if len(kinds) == 1:  # in this thread, so that Ctrl-C ends the probe
        return [planner.plan(kinds[0])]
    pool = ThreadPoolExecutor(max_workers=len(kinds))
    try:
        return list(pool.map(planner.plan, kinds))
    except BaseException:
        planner.head.connections.close()  # each thread's present probe is lost, and so it ends
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class KindPlanner:
    """Plans one kind after another, or several side by side."""

    asked: FleetRequest
    head: Head
    ledger: Store
    """The probes of all kinds. This process alone writes it."""
    watch: Watch

    def plan(self, kind: NodeKind) -> KindRecord:
        """The record of `kind`, whose profile is written beside it."""
        with kind_named(kind.name):
            kind, notes = without_slow_first(kind, self.head)
            nodes = self.head.connections.engine.nodes()
            substitutes = Substitutes(kind, self.head, self.asked.file.wait_s, nodes)
            file, failure = f"{kind.name}.json", ""
            try:
                self._optimize(kind, substitutes, self.asked.folder / file)
            except CompassError as error:
                file, failure = "", str(error)
                log.error("%s: no profile: %s", kind.name, error)  # noqa: TRY400 - a line for the user, not a bug
            return kind_record(kind, file, failure, (*notes, *substitutes.losses))

    def _optimize(self, kind: NodeKind, substitutes: Substitutes, out: Path) -> None:
        site = Site(
            open_runner=lambda settings: RemoteRunner(self.head, substitutes, settings),
            store=self.ledger,
            host=kind.places[0].host,
        )
        request = replace(self.head.request, out=out, device=kind.places[0].device)
        optimize(request, runner=site, watch=lambda now: self.watch(now.model_copy(update={"what": f"{kind.name}: {now.what}"})))  # fmt: skip


def kind_record(kind: NodeKind, profile: str = "", failure: str = "", notes: tuple[str, ...] = ()) -> KindRecord:
    """What `fleet.json` says of `kind`."""
    return KindRecord(
        name=kind.name,
        device=kind.device_name,
        nodes=tuple(place.name for place in kind.places),
        versions=dict(kind.places[0].versions),
        price_per_hour=kind.rules.price_per_hour,
        power_w=kind.rules.power_w,
        profile=profile,
        failure=failure,
        notes=notes,
    )


def fleet_record(file: FleetFile, engine_name: str, kinds: Sequence[KindRecord]) -> FleetRecord:
    """The record of `kinds`, made now."""
    return FleetRecord(
        compass_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        engine=engine_name,
        currency=file.currency,
        priced_on="" if file.priced_on is None else file.priced_on.isoformat(),
        kinds=tuple(kinds),
    )
