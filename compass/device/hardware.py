"""Detection: the device to use, and how much of its memory a training process may hold."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from compass.device.accelerator import Accelerator, CachedAccelerator, MpsAccelerator
from compass.device.cgroups import group_cores, group_memory
from compass.device.kinds import present_devices
from compass.device.process import ROOT, process_memory
from compass.errors import InputError
from compass.records import Hardware, device_kind
from compass.units import format_bytes

N_MEMORY_PARTS = 128
"""The memory that other processes hold is rounded up to whole parts of this number, so that the budget changes rarely."""


def detect(
    kind: str | None = None,
    *,
    limit_bytes: int | None,
    reserve_share: float,
    root: Path = ROOT,
    torch: Any = None,
    nvml: Any = None,
) -> Hardware:
    """The device `kind` and its memory. Creates the device's context.

    Args:
        kind: The user's choice, such as `cuda:1`; None takes the preferred device.
        limit_bytes: The user's limit on the footprint of the whole process.
        reserve_share: Share of the memory that is left to other programs if there is no such limit.
        root: Folder that contains `/proc` and `/sys`, for tests.
        torch: A stand-in for torch, for tests.
        nvml: A stand-in for NVIDIA's management library, for tests.

    Raises:
        InputError: there is no such device, or the limit exceeds the device's memory.
    """
    device = resolve(kind, torch=torch)
    if device_kind(device).memory == "host":
        return _cpu(limit_bytes, reserve_share, root)
    accelerator = open_accelerator(device, torch=torch, nvml=nvml)
    return _accelerated(accelerator, limit_bytes, reserve_share)


def resolve(kind: str | None = None, *, torch: Any = None) -> str:
    """The torch device string of the user's choice: `cuda:1`, `mps`, `cpu`; `gpu` is the accelerator, None the preferred device.

    Raises:
        InputError: there is no such device; the message lists the present ones.
    """
    present = devices(torch=torch)
    if kind is None:
        return present[0]
    wanted = kind.strip().lower()
    if wanted.partition(":")[0] == "gpu" and device_kind(present[0]).memory != "host":
        wanted = wanted.replace("gpu", device_kind(present[0]).name)
    for device in (wanted, f"{wanted}:0", wanted.removesuffix(":0")):
        if device in present:
            return device
    raise InputError(
        "device",
        got=repr(kind),
        expected=f"one of {', '.join(present)}",
        fix=f"Choose one of these, or leave the option out to take {present[0]}.",
    )


def devices(*, torch: Any = None) -> tuple[str, ...]:
    """The torch device strings of all devices here, the preferred first; `cpu` is always the last."""
    return present_devices(_torch(torch))


def device_of_rank(device: str, rank: int) -> str:
    """The device of a rank on this machine, where rank 0 has `device`; ranks of a kind without numbers share it."""
    kind = device_kind(device)
    return f"{kind.name}:{int(device.partition(':')[2] or 0) + rank}" if kind.has_index else device


def n_alike(device: str, *, torch: Any = None, root: Path = ROOT) -> int:
    """Devices of the same kind from `device` on; of a CPU, the cores that ranks can share out."""
    kind = device_kind(device)
    if kind.memory == "host":
        return available_cores(root=root)
    later = [one for one in devices(torch=torch) if device_kind(one) == kind]
    return len(later) - later.index(device)


def shared_out(hardware: Hardware, n_ranks: int) -> Hardware:
    """`hardware` with the budget of one of `n_ranks` processes: those on a CPU share out its memory."""
    if not hardware.on_host:
        return hardware
    return hardware.model_copy(update={"budget_bytes": hardware.budget_bytes // n_ranks})


def open_accelerator(device: str, *, torch: Any = None, nvml: Any = None) -> Accelerator:
    """The accelerator with the torch device string `device`. Creates its context."""
    torch = _torch(torch)
    kind, index = device_kind(device), int(device.partition(":")[2] or 0)
    return MpsAccelerator(torch) if kind.memory == "unified" else CachedAccelerator(kind, index, torch, nvml=nvml)


def available_cores(*, root: Path = ROOT) -> int:
    """Cores that this process may keep busy: the smaller of its affinity mask and its control group's quota.

    A quota of 1.5 cores counts as one, because a second thread would be stopped for half of every period while the first
    waits for it.
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = group_cores(root=root)
    return max(1, n_cores if quota is None else min(n_cores, int(quota)))


def obtainable_memory(*, root: Path = ROOT) -> int:
    """Bytes of main memory that this process could hold now: those it holds, and those that are free to it."""
    total, available = system_memory(root)
    group = group_memory(root=root)
    ceiling = total if group.limit_bytes is None else min(total, group.limit_bytes)
    free = available if group.free_bytes is None else min(available, group.free_bytes)
    return min(ceiling, free + _own_bytes(root))


def _own_bytes(root: Path) -> int:
    """Resident bytes that are private to this process. Pages of files can be dropped, and count as available."""
    now = process_memory(root=root)
    return now.rss_bytes - now.rss_file_bytes


def _cpu(limit_bytes: int | None, reserve_share: float, root: Path) -> Hardware:
    total, available = system_memory(root)
    group = group_memory(root=root)
    own = _own_bytes(root)
    ceiling = total if group.limit_bytes is None else min(total, group.limit_bytes)
    free = available if group.free_bytes is None else min(available, group.free_bytes)
    return Hardware(
        kind="cpu",
        name=cpu_name(root),
        # The C library contains the allocator, so on a CPU it takes the driver's place.
        driver=" ".join(filter(None, (platform.system(), *platform.libc_ver()))),
        total_bytes=total,
        free_bytes=free,
        others_bytes=max(0, total - available - own),
        limit_bytes=min((n for n in (limit_bytes, group.limit_bytes) if n is not None), default=None),
        budget_bytes=_budget(ceiling, min(ceiling, free + own), limit_bytes, reserve_share, "this machine"),
    )


def _accelerated(accelerator: Accelerator, limit_bytes: int | None, reserve_share: float) -> Hardware:
    total, used = accelerator.total_bytes, accelerator.used_bytes()
    others = max(0, used - (accelerator.own_bytes() or 0))
    return Hardware(
        kind=accelerator.kind,
        index=accelerator.index,
        name=accelerator.name,
        driver=accelerator.driver,
        total_bytes=total,
        free_bytes=max(0, total - used),
        others_bytes=others,
        limit_bytes=limit_bytes,
        budget_bytes=_budget(total, total - others, limit_bytes, reserve_share, accelerator.name),
        expandable_segments=accelerator.expands and "expandable_segments:True" in _allocator_settings(),
    )


def _allocator_settings() -> str:
    """Settings that torch's CUDA allocator reads from the environment."""
    return os.environ.get("PYTORCH_CUDA_ALLOC_CONF") or os.environ.get("PYTORCH_ALLOC_CONF", "")


def _budget(total: int, obtainable: int, limit: int | None, reserve_share: float, whose: str) -> int:
    """Bytes of `total` that a process may hold, if `obtainable` of them can be had now; `whose` names the memory in errors.

    The memory that cannot be had is rounded up, so that a run a little later has the same budget and finds its probes in the
    ledger.
    """
    grain = max(1, total // N_MEMORY_PARTS)
    obtainable = total - -(-max(0, total - obtainable) // grain) * grain
    if limit is None:
        return max(0, obtainable - int(reserve_share * total))
    if limit > total:
        raise InputError(
            "memory limit",
            got=format_bytes(limit),
            expected=f"at most the {format_bytes(total)} of {whose}",
            fix="Lower the limit, or leave it out to use the free memory.",
        )
    # The limit is the user's permission; memory that other processes hold cannot be had whatever it is.
    return max(0, min(limit, obtainable))


def system_memory(root: Path = ROOT) -> tuple[int, int]:
    """(total, available) bytes of main memory."""
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii")
    except OSError:
        import psutil

        memory: Any = psutil.virtual_memory()
        return int(memory.total), int(memory.available)
    kib = {name: int(amount) for name, amount in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    # Kernels before 3.14 have no MemAvailable.
    available = kib.get("MemAvailable", kib.get("MemFree", 0) + kib.get("Cached", 0))
    return kib["MemTotal"] * 1024, available * 1024


def cpu_name(root: Path = ROOT) -> str:
    """The processor's name, as `/proc/cpuinfo` has it."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", text, re.MULTILINE)
    if match:
        return match[1].strip()
    # On ARM there are only numbers; without them all its cores would have the same name.
    numbers = dict(re.findall(r"^CPU (implementer|part)\s*:\s*(\S+)$", text, re.MULTILINE))
    return " ".join([platform.processor() or platform.machine() or "CPU", *numbers.values()])


def _torch(torch: Any) -> Any:
    if torch is None:
        import torch
    return torch
