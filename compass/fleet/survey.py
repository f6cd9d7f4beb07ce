"""The survey: what each node has, before anything runs. Nodes that lack something or have other versions are named."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from compass.errors import InputError, WorkerError
from compass.fleet.agent import PACKAGES
from compass.fleet.engine import FleetNode, NodeLostError
from compass.fleet.head import Head
from compass.fleet.kinds import Place
from compass.version import __version__

log = logging.getLogger(__name__)

SIDE_BY_SIDE = 32
"""Nodes asked at a time: each waits for a process to start elsewhere."""
_Answer = TypeVar("_Answer")


def survey_nodes(head: Head, *, allow_skew: bool) -> tuple[Place, ...]:
    """Every device of every node, described. Nodes that are lost meanwhile are left out, with a warning.

    Raises:
        InputError: nodes lack the workload or the dataset, or have another version of Compass or of what figures depend on.
        WorkerError: no node answered.
    """
    nodes = head.connections.engine.nodes()
    found = _of_each(nodes, head.look_at)
    check_versions({node.name: its["versions"] for node, its in found.items()}, allow_skew=allow_skew)
    check_missing({node.name: its["missing"] for node, its in found.items()})
    described = _of_each(list(found), lambda node: head.places_of(node, found[node]))
    places = tuple(place for of_node in described.values() for place in of_node)
    if not places:
        reasons = "; ".join(f"{node.name}: {why}" for node, why in head.connections.losses)
        raise WorkerError(f"no node of the fleet can be used: {reasons or 'there is none'}")
    return places


def _of_each(nodes: Sequence[FleetNode], ask: Callable[[FleetNode], _Answer]) -> dict[FleetNode, _Answer]:
    """The answers of those that are not lost, asked side by side."""

    def answer(node: FleetNode) -> _Answer | None:
        try:
            return ask(node)
        except NodeLostError:  # noted and warned of by the connections
            return None

    with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as pool:
        answers = list(pool.map(answer, nodes))
    return {node: given for node, given in zip(nodes, answers, strict=True) if given is not None}


def check_missing(missing: Mapping[str, Sequence[str]]) -> None:
    """Refuse nodes that lack something; `missing` says what, by the node's name.

    Raises:
        InputError: one does; the message names every such node.
    """
    lacking = {name: what for name, what in missing.items() if what}
    if lacking:
        raise InputError(
            "fleet",
            got="; ".join(f"on {name} {', '.join(what)}" for name, what in lacking.items()),
            expected="workload and dataset on every node as they are here",
            fix="Put them on shared storage, or write `workload: runtime_env`, `dataset: runtime_env` in the fleet file.",
        )


def check_versions(versions: Mapping[str, Mapping[str, str]], *, allow_skew: bool) -> None:
    """Refuse nodes with another Compass and, unless it is allowed, nodes that differ in what figures depend on.

    `versions` are by the node's name, then by the package's.

    Raises:
        InputError: there are such nodes; the message names them.
    """
    of_compass = _by_version(versions, "compass")
    if set(of_compass) - {__version__}:
        raise InputError(
            "fleet",
            got=f"Compass {_in_words(of_compass)}",
            expected=f"Compass {__version__}, as on this machine",
            fix="Install the same version on every node.",
        )
    for package in PACKAGES:
        found = _by_version(versions, package)
        if len(found) > 1 and not allow_skew:
            raise InputError(
                "fleet",
                got=f"{package} {_in_words(found)}",
                expected="one version on all nodes",
                fix="Install one version everywhere, or pass --allow-skew to plan for each version apart.",
            )
        if len(found) > 1:
            log.warning("%s differs between nodes, which makes kinds of their own: %s", package, _in_words(found))


def _by_version(versions: Mapping[str, Mapping[str, str]], package: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for node, its in versions.items():
        found[its.get(package, "none")].append(node)
    return dict(found)


def _in_words(found: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{version} on {', '.join(nodes)}" for version, nodes in found.items())
