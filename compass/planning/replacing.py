"""An earlier profile in the place of the new one: what may replace it, and a copy of what is dropped."""

from __future__ import annotations

import logging
from pathlib import Path

from compass.errors import InputError
from compass.files import read_file, replacing, unwritable
from compass.planning.request import Request
from compass.profile import Profile

log = logging.getLogger(__name__)


def check_replaced(request: Request, earlier: Profile | None) -> None:
    """Refuse to replace the plans of another workload or dataset, unless by force.

    Raises:
        InputError: `earlier` has plans, of another workload or of another dataset.
    """
    if earlier is None or request.force or not (earlier.plans or earlier.failures):
        return
    was, now = earlier.config.dataset.path, request.config.dataset.path
    other_workload = _place(earlier.workload) != _place(request.workload)
    if not other_workload and (not was or _place(was) == _place(now)):
        return
    of = f"workload {earlier.workload}{f' on {was}' if was else ''}"
    raise InputError(
        f"output {request.out}",
        got=f"the plans of {of}",
        expected="plans of the same workload and dataset, or a new file",
        fix="Choose another --out, or replace it with --force, which keeps a copy.",
    )


def _place(text: str) -> str:
    """A path or a `file.py:name`, absolute; any other name as it is."""
    return str(Path(text).absolute()) if "/" in text or text.partition(":")[0].endswith(".py") else text


def keep_dropped(request: Request, earlier: Profile | None, now: Profile) -> None:
    """Copy the earlier profile aside if its plans do not hold any more, and log which of them are dropped, and why.

    Raises:
        InputError: the copy cannot be written.
    """
    if earlier is None or not (earlier.plans or earlier.failures):
        return
    changes = now.changed_since(earlier)
    dropped = [stage for stage in (*earlier.plans, *earlier.failures) if stage not in request.stages]
    if request.force or changes:
        copy = request.out.with_name(f"{request.out.name}.bak")
        try:
            with replacing(copy) as file:
                file.write(read_file(request.out))
        except OSError as error:
            raise unwritable(copy, error) from error
        log.info("%s: the earlier profile is kept as %s", request.out, copy)
    if changes and dropped:
        log.warning("%s: dropping earlier plans (%s): %s", request.out, ", ".join(dropped), "; ".join(changes))
