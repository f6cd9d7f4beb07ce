"""Runtime settings: threads, waiting policy and allocators, set in a worker's environment before it starts.

They change every measurement. Libraries read them once, when they are loaded, so a worker cannot set them itself.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping

from compass.probe.preload import library_file
from compass.records import ALLOCATORS, Allocator, RuntimeSettings

_THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)
_DROPPED = (
    # Variables that override the thread counts or the waiting policy.
    "OMP_THREAD_LIMIT",
    "OMP_DYNAMIC",
    "MKL_DYNAMIC",
    "MKL_DOMAIN_NUM_THREADS",
    "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME",
    # Python's debugging allocators, and profilers that hold on to memory.
    "PYTHONMALLOC",
    "PYTHONTRACEMALLOC",
    "PYTHONDEVMODE",
    # Without its cache torch allocates otherwise than in training; blocking launches change times.
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "CUDA_LAUNCH_BLOCKING",
)
_MMAP_THRESHOLD_MAX_BEFORE_2_35 = 32 * 1024**2
"""Half of HEAP_MAX_SIZE on 64 bits. glibc refused more until 2.35 made the heap's size variable for huge pages
(malloc.c, do_set_mmap_threshold), and a refused threshold stays at 128 KiB for good once the trim threshold is set."""
_OURS = ("mmap_threshold", "mmap_max", "trim_threshold", "top_pad", "hugetlb")
_HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Huge pages by madvise; glibc before 2.35 ignores it."""
_C_ALLOCATOR = re.compile(r"MALLOC_\w+")
"""glibc's: `MALLOC_ARENA_MAX` has no underscore at its end, most others have."""
_INHERITED = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "NVIDIA_TF32_OVERRIDE")
"""Variables that the user sets, which change times."""
_LIBRARY_SETTINGS = re.compile(r"(?:MALLOC_CONF|MIMALLOC_\w+|TCMALLOC_\w+)")
"""Those of allocators that are preloaded."""
_OTHER_ALLOCATORS = re.compile(
    "|".join(["tcmalloc", "hoard", "snmalloc", *(kind.library for kind in ALLOCATORS.values() if kind.library)])
)
_DEVICE_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
_EXPANDABLE = "expandable_segments:True"


def environment(
    settings: RuntimeSettings, inherited: Mapping[str, str] | None = None, *, here: bool = True
) -> dict[str, str]:
    """The complete environment of a worker that runs under `settings`.

    It is the parent's (`inherited`, by default this process's) without the variables that contradict the settings. The
    parent's settings of the C allocator are dropped, except for tunables that Compass does not use. With `here`, an allocator is
    preloaded from this machine's file; otherwise from the one that the settings name.

    Raises:
        InputError: the allocator is not installed here.
    """
    env = dict(os.environ if inherited is None else inherited)
    for name in _DROPPED:
        env.pop(name, None)
    for name in filter(_C_ALLOCATOR.fullmatch, list(env)):
        del env[name]
    env.update(dict.fromkeys(_THREAD_COUNTS, str(settings.threads)))
    env.pop("OMP_WAIT_POLICY", None)
    if settings.waiting == "sleep":
        env["OMP_WAIT_POLICY"] = "passive"
    env["PYTHONUNBUFFERED"] = "1"  # a worker's last output explains its death
    env["PYTHONFAULTHANDLER"] = "1"
    _set_c_allocator(env, settings, here=here)
    _set_device_allocator(env, settings.allocator)
    return env


def _set_c_allocator(env: dict[str, str], settings: RuntimeSettings, *, here: bool) -> None:
    kind = ALLOCATORS[settings.allocator]
    tunables = [
        tunable
        for tunable in env.pop("GLIBC_TUNABLES", "").split(":")
        if tunable and tunable.partition("=")[0] not in {f"glibc.malloc.{name}" for name in _OURS}
    ]
    if kind.name != "system" and sys.platform == "linux":
        for name in filter(_LIBRARY_SETTINGS.fullmatch, list(env)):
            del env[name]
        if kind.mmap_threshold is not None:
            env["MALLOC_MMAP_THRESHOLD_"] = str(min(kind.mmap_threshold, _highest_mmap_threshold()))
        if kind.trim_threshold is not None:
            env["MALLOC_TRIM_THRESHOLD_"] = str(kind.trim_threshold)
        if kind.huge_pages:
            tunables.append(_HUGE_PAGES)
        env.update(kind.variables)
        preloaded = [
            name for name in re.split(r"[ :]+", env.pop("LD_PRELOAD", "")) if not _OTHER_ALLOCATORS.search(name)
        ]
        if kind.library:
            preloaded.insert(0, str(library_file(kind.name)) if here else settings.library)
        if any(preloaded):
            env["LD_PRELOAD"] = ":".join(filter(None, preloaded))
    if tunables:
        env["GLIBC_TUNABLES"] = ":".join(tunables)


def _set_device_allocator(env: dict[str, str], allocator: Allocator) -> None:
    if allocator == "system":
        return
    for name in _DEVICE_ALLOCATOR:
        env.pop(name, None)
    if sys.platform == "linux":  # torch has expandable segments nowhere else
        # torch 2.13 reads the second before the first on CUDA and ROCm (c10/cuda/CUDAAllocatorConfig.h) and the first
        # for every other device (c10/core/AllocatorConfig.h); before 2.9 there was only the second.
        env["PYTORCH_ALLOC_CONF"] = env["PYTORCH_CUDA_ALLOC_CONF"] = _EXPANDABLE


def _highest_mmap_threshold() -> int:
    library, version = platform.libc_ver()
    if library == "glibc" and tuple(int(part) for part in version.split(".")[:2]) < (2, 35):
        return _MMAP_THRESHOLD_MAX_BEFORE_2_35
    return sys.maxsize


def describe_runtime() -> dict[str, str]:
    """The settings that are in force in this worker, for the fingerprint."""
    import torch

    library, version = platform.libc_ver()
    found = {
        "threads": str(torch.get_num_threads()),
        "interop_threads": str(torch.get_num_interop_threads()),
        "libc": f"{library} {version}".strip() or "unknown",
    }
    shown = ("OMP_WAIT_POLICY", "GLIBC_TUNABLES", "LD_PRELOAD", *_DEVICE_ALLOCATOR, *_INHERITED)
    names = sorted({*shown, *filter(_C_ALLOCATOR.fullmatch, os.environ)})
    return found | {name: os.environ[name] for name in names if name in os.environ}
