"""Limits of Linux control groups on this process, in versions 1 and 2 and in mixtures of the two.

A group's limit holds for all groups below it, so the smallest along the path counts. `root` is the folder under which files
are read; tests replace it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from compass.device.process import ROOT

_UNLIMITED_V1 = 2**60
"""Version 1 writes the largest page-aligned number where version 2 writes `max`."""


@dataclass(frozen=True)
class GroupMemory:
    """The smallest memory limit of a process's groups, and the memory left of it; None if there is no limit."""

    limit_bytes: int | None = None
    free_bytes: int | None = None


def group_memory(*, root: Path = ROOT) -> GroupMemory:
    """The memory limit along this process's path of groups.

    File cache that the kernel would reclaim first counts as free.
    """
    version, groups = _groups("memory", root)
    limits: list[int] = []
    left: list[int] = []
    for group in groups:
        if version == 2:
            # Above memory.high a process is slowed to a crawl, so that is as good as the limit.
            present = [n for n in (_number(group / "memory.max"), _number(group / "memory.high")) if n is not None]
            used, cache = _number(group / "memory.current"), _stat(group, "inactive_file")
        else:
            number = _number(group / "memory.limit_in_bytes")
            present = [number] if number is not None and number < _UNLIMITED_V1 else []
            used, cache = _number(group / "memory.usage_in_bytes"), _stat(group, "total_inactive_file")
        if present:
            limits.append(min(present))
            left.append(max(0, limits[-1] - max(0, (used or 0) - cache)))
    return GroupMemory(min(limits), min(left)) if limits else GroupMemory()


def group_cores(*, root: Path = ROOT) -> float | None:
    """CPU time that the groups allow, in cores; None if there is no quota."""
    version, groups = _groups("cpu", root)
    quotas: list[float] = []
    for group in groups:
        if version == 2:
            words = _read(group / "cpu.max").split()
            quota, period = (words[0], words[1]) if len(words) == 2 else ("max", "0")
        else:
            quota, period = _read(group / "cpu.cfs_quota_us").strip(), _read(group / "cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit() and int(period) > 0:  # -1 and `max` mean no quota
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _groups(controller: str, root: Path) -> tuple[int, list[Path]]:
    """(version, folders from this process's group up to the mount); no folders if there are no control groups."""
    membership = [line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines() if line.count(":") >= 2]
    legacy = [path for _, names, path in membership if controller in names.split(",")]
    unified = [path for _, names, path in membership if not names]
    version, paths = (1, legacy) if legacy else (2, unified)
    if not paths:
        return version, []
    mount_root, mount_point = _mount(version, controller, root)
    top = root / mount_point.lstrip("/")
    path = paths[0]
    # In a container, the group may have the host's path while only the group itself is mounted, or the path `/../…`.
    inside = path[len(mount_root) :] if path.startswith(mount_root) else ""
    parts = [] if ".." in inside.split("/") else [part for part in inside.split("/") if part]
    return version, [top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _mount(version: int, controller: str, root: Path) -> tuple[str, str]:
    """(path of the mounted group, mount point) from `mountinfo`, or the usual mount point if it is not listed there."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        head, _, tail = line.partition(" - ")
        words, kind = head.split(), tail.split()
        if len(words) < 5 or len(kind) < 3:
            continue
        if (version == 2 and kind[0] == "cgroup2") or (
            version == 1 and kind[0] == "cgroup" and controller in kind[2].split(",")
        ):
            return words[3].rstrip("/"), _unescape(words[4])
    return "", "/sys/fs/cgroup" if version == 2 else f"/sys/fs/cgroup/{controller}"


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # absent, or not readable
        return ""


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _stat(group: Path, name: str) -> int:
    match = re.search(rf"^{name} (\d+)$", _read(group / "memory.stat"), re.MULTILINE)
    return int(match[1]) if match else 0
