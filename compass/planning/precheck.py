"""`compass optimize --dry-run`: everything cheap that a run would refuse, and how long the run would take."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from compass.data.scan.reading import Reader, ReadingRules
from compass.data.scan.scan import list_source
from compass.errors import InputError
from compass.planning.forecast import Forecast
from compass.planning.prober import Watch, ignore_progress
from compass.planning.replacing import check_replaced
from compass.planning.request import Request
from compass.planning.session import check_budget, check_devices, first_settings, local_runner, without_catalogue
from compass.probe.runner import Runner
from compass.profile import Profile, read_earlier
from compass.records import Description, Progress, Record, Stage
from compass.search.family import follow

N_READ = 8
"""Complexes of a dataset that are read: spread over the list, they show whether its files are what they seem."""


class Checked(Record):
    """What a run will meet."""

    description: Description
    """The machine and the workload, by a worker."""
    n_listed: int = 0
    """Complexes that the dataset lists; 0 without a dataset."""
    read: tuple[tuple[str, str], ...] = ()
    """(id, status or reason) of the complexes that were read."""
    warnings: tuple[str, ...] = ()
    run_s: float
    """Seconds that the run is expected to take, without the scan of the dataset."""
    before_s: float | None = None
    """Seconds that the run took that wrote the present profile, if it was the same."""


def check_request(
    request: Request,
    groups: Sequence[Sequence[Stage]],
    *,
    runner: Runner | None = None,
    watch: Watch = ignore_progress,
) -> Checked:
    """Open the device, build the workload, read some complexes; nothing is measured or written.

    `groups` are the stages in the order of their decision.

    Raises:
        InputError: whatever a run would refuse: device, workload, limit, dataset, or the profile that it would replace.
        WorkerError: no worker can be started on this machine.
    """
    earlier = read_earlier(request.out)
    check_replaced(request, earlier)
    read, n_listed, warnings = _read_some(request)
    watch(Progress(phase="runtime", what="starting a worker", n_done=0, n_expected=1))
    plain = replace(request, config=without_catalogue(request.config))
    with closing(runner or local_runner(plain, first_settings(request.config, n_ranks=request.n_devices))) as machine:
        description = machine.describe()
    check_devices(description, request)
    check_budget(description, follow(request.config, description.family))
    return Checked(
        description=description,
        n_listed=n_listed,
        read=read,
        warnings=warnings,
        run_s=Forecast(groups).left_s(),
        before_s=_took_s(request, earlier),
    )


def _read_some(request: Request) -> tuple[tuple[tuple[str, str], ...], int, tuple[str, ...]]:
    """(id, status or reason) of some complexes of the dataset, the number of all, and warnings about the whole."""
    rules = request.config.dataset
    if not rules.path:
        return (), 0, ()
    listing = list_source(Path(rules.path), rules)
    whole = [one for one in listing.complexes if one.row.usable]
    chosen = whole[:: max(1, len(whole) // N_READ)][:N_READ]
    reader = Reader(listing.root, ReadingRules.of(request.config))
    rows = [(one.row, reader(one)) for one in chosen]
    done = [reading.outcome.completes(row, reading.key) for row, reading in rows if reading.outcome is not None]
    if not any(row.usable for row in done):
        first = next(iter(done), listing.complexes[0].row)
        raise InputError(
            f"dataset {rules.path}",
            got=f"{len(done) or len(listing.complexes)} complexes that cannot be used, such as {first.id}: {first.detail}",
            expected="complexes that can be read",
            fix=f"See the problem of each complex: compass scan {rules.path}",
        )
    read = tuple((row.id, row.status if row.usable else f"rejected, {row.reason}: {row.detail}") for row in done)
    return read, len(listing.complexes), listing.warnings


def _took_s(request: Request, earlier: Profile | None) -> float | None:
    """Seconds that the same request took before; a repetition finds its probes in the ledger and takes less."""
    if earlier is None or earlier.asked != request.asked or earlier.workload != request.workload:
        return None
    return earlier.probe_costs.wall_s
