"""Kinds of node: places whose measurements hold for each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from compass.errors import InputError
from compass.fleet.engine import FleetNode
from compass.fleet.fleet_file import FleetFile, KindRules
from compass.probe.site import Host
from compass.records import Description, digest
from compass.units import GIB


@dataclass(frozen=True)
class Place:
    """One device of one node."""

    node: FleetNode
    device: str | None
    """In torch's words; None: the node's preferred one."""
    versions: Mapping[str, str]
    host: Host
    description: Description

    @property
    def name(self) -> str:
        """The node, and the device where a node has several that differ."""
        return self.node.name if self.device is None else f"{self.node.name} {self.device}"

    @property
    def key(self) -> str:
        """Equal for places of one kind.

        The fingerprint holds device, software, workload and threads; memory is beside it, to the GiB, because equal machines
        differ by a few MiB.
        """
        total_gib = round(self.description.hardware.total_bytes / GIB)
        return digest(self.description.fingerprint.key, total_gib, self.description.hardware.limit_bytes, self.host)


@dataclass(frozen=True)
class NodeKind:
    """Places that one profile serves."""

    name: str
    places: tuple[Place, ...]
    """The first is measured; its budget is the smallest."""
    rules: KindRules

    @property
    def key(self) -> str:
        """That of its places."""
        return self.places[0].key

    @property
    def device_name(self) -> str:
        """As the vendor calls it."""
        return self.places[0].description.hardware.name


def group_places(places: Iterable[Place], file: FleetFile) -> tuple[NodeKind, ...]:
    """The kinds that `places` form, by name. Places of a kind that the file does not name are named after their device."""
    groups: dict[str, list[Place]] = {}
    for place in places:
        groups.setdefault(place.key, []).append(place)
    named: dict[str, list[list[Place]]] = {}
    for group in groups.values():
        group.sort(key=lambda place: (place.description.hardware.budget_bytes, place.name))
        named.setdefault(_name_of(group[0], file), []).append(group)
    kinds = []
    for name, alike in named.items():
        for index, group in enumerate(sorted(alike, key=lambda one: (-len(one), one[0].name))):
            own = name if index == 0 else f"{name}-{index + 1}"
            kinds.append(NodeKind(own, tuple(group), file.kinds.get(name, KindRules())))
    return tuple(sorted(kinds, key=lambda kind: kind.name))


def _name_of(place: Place, file: FleetFile) -> str:
    for name, rules in file.kinds.items():
        if (rules.device or rules.node) and _matches(place, rules):
            return name
    slug = re.sub(r"[^a-z0-9]+", "-", place.description.hardware.name.lower()).strip("-")
    return slug if slug not in file.kinds or not (file.kinds[slug].device or file.kinds[slug].node) else f"{slug}-other"


def _matches(place: Place, rules: KindRules) -> bool:
    device, node = place.description.hardware.name, place.node.name
    return fnmatchcase(device, rules.device or "*") and fnmatchcase(node, rules.node or "*")


def wanted_kinds(kinds: Sequence[NodeKind], names: Sequence[str]) -> tuple[NodeKind, ...]:
    """The kinds with these `names`; all without any.

    Raises:
        InputError: one is not there.
    """
    by_name = {kind.name: kind for kind in kinds}
    for name in names:
        if name not in by_name:
            raise absent_kind(name, kinds)
    return tuple(by_name[name] for name in dict.fromkeys(names)) if names else tuple(kinds)


def absent_kind(name: str, kinds: Sequence[NodeKind], waited_s: float | None = None) -> InputError:
    """The error that no node is of the kind `name`, with what there is."""
    there = ", ".join(f"{kind.name} ({kind.device_name}, {_nodes(len(kind.places))})" for kind in kinds) or "no node"
    within = "" if waited_s is None else f" within {waited_s:.0f} s"
    return InputError(
        f"kind {name}",
        got=f"no node of it{within}; there are {there}",
        expected="one",
        fix="Name a kind that is there, start a node of this one, or see `compass fleet describe`.",
    )


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
