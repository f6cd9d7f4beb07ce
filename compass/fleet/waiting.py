"""The kinds that are there, and those that are waited for: a node may still be starting, or be taken by another job."""

from __future__ import annotations

import logging
import time

from compass.errors import InputError, WorkerError
from compass.fleet.fleet_file import FleetFile
from compass.fleet.head import Head
from compass.fleet.kinds import NodeKind, absent_kind, group_places, wanted_kinds
from compass.fleet.survey import survey_nodes

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 2.0
"""Between two looks at which nodes are there."""


def wait_for_kinds(head: Head, file: FleetFile, names: tuple[str, ...], *, allow_skew: bool) -> tuple[NodeKind, ...]:
    """The kinds with these `names`; without any, all that are there. Every kind of the fleet file must be.

    Nodes that come while others are waited for are surveyed with all.

    Raises:
        InputError: a kind is not there within the fleet file's seconds; the message says what is.
        WorkerError: no node can be used.
    """
    expected = names or tuple(name for name, rules in file.kinds.items() if not rules.partition)
    deadline_s = time.monotonic() + file.wait_s
    seen: frozenset[str] = frozenset()
    kinds: tuple[NodeKind, ...] = ()
    while True:
        there = frozenset(node.id for node in head.connections.engine.nodes())
        if there != seen:
            kinds, seen = _present(head, file, allow_skew=allow_skew), there
        absent = [name for name in expected if name not in {kind.name for kind in kinds}]
        if kinds and not absent:
            return wanted_kinds(kinds, names)
        if time.monotonic() >= deadline_s:
            raise absent_kind(absent[0], kinds, file.wait_s) if absent else _nothing_there(file.wait_s)
        time.sleep(min(LOOK_AGAIN_S, file.wait_s))


def _present(head: Head, file: FleetFile, *, allow_skew: bool) -> tuple[NodeKind, ...]:
    """The kinds of the nodes that can be used now."""
    try:
        return group_places(survey_nodes(head, allow_skew=allow_skew), file)
    except WorkerError as error:
        log.warning("%s", error)
        return ()


def _nothing_there(waited_s: float) -> InputError:
    return InputError(
        "fleet",
        got=f"no node that can be used within {waited_s:.0f} s",
        expected="at least one",
        fix="Start nodes, or raise `wait_s` in the fleet file.",
    )
