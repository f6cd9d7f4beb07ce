"""The C allocators that training on a CPU may run under: one row each.

What costs time is giving memory back to the system, because the next step has to fetch it again, page by page; what costs memory
is keeping it in pieces. An allocator is a point between the two. Which is best depends on machine and model, so they are
measured.

To add an allocator: its name, a row here, and a test in `tests/unit/probe/test_runtime.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from compass.units import KIB

Allocator = Literal["fast", "tight", "tight_huge", "tcmalloc", "jemalloc", "mimalloc", "system"]


@dataclass(frozen=True)
class AllocatorKind:
    """One allocator: how a process gets it, and whether it keeps freed memory."""

    name: Allocator
    about: str
    """What it is, in a few words, for tables."""
    returns_memory: bool = False
    """Whether freed memory goes back to the system at once, so that the footprint follows the live bytes."""
    joins_pieces: bool = False
    """Whether freed pieces that lie side by side serve larger blocks, so that kept memory wastes little."""
    reserved_share: float = 0.0
    """How much more than `fast` it may hold, as a share: it reserves addresses, which count in the footprint."""
    grows: bool = False
    """Whether the footprint goes on growing over hundreds of batches, which no certificate sees. A stage must ask for it by name."""
    mmap_threshold: int | None = None
    """Bytes from which glibc maps a block on its own, and unmaps it when it is freed; None: glibc is left alone."""
    trim_threshold: int | None = None
    """Free bytes at the heap's end from which glibc returns them; None: its default."""
    huge_pages: bool = False
    """Whether glibc asks for huge pages."""
    library: str = ""
    """The shared library to preload, as a linker names it; empty: the C library's own allocator serves."""
    package: str = ""
    """Debian's package of the library."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that configure the library."""


_KEPT = 1024**4
"""More than a step holds, so that memory which a step frees stays for the next one."""

ALLOCATORS: dict[Allocator, AllocatorKind] = {
    kind.name: kind
    for kind in (
        AllocatorKind(
            "fast",
            "glibc, keeping all freed memory, in huge pages",
            mmap_threshold=1024**3,
            trim_threshold=_KEPT,
            huge_pages=True,
        ),
        AllocatorKind("tight", "glibc, returning every freed block", returns_memory=True, mmap_threshold=64 * KIB),
        # A virtual machine's host may reclaim free huge pages; the same step then took 1.0 to 2.7 s. Elsewhere it is faster.
        AllocatorKind(
            "tight_huge",
            "glibc, returning every freed block, in huge pages",
            returns_memory=True,
            mmap_threshold=64 * KIB,
            huge_pages=True,
        ),
        AllocatorKind(
            "tcmalloc",
            "gperftools' tcmalloc, keeping freed memory and joining its pieces",
            joins_pieces=True,
            library="tcmalloc_minimal",
            package="libtcmalloc-minimal4",
        ),
        # By default it returns memory after ten seconds, in every step; then a step took three times as long.
        AllocatorKind(
            "jemalloc",
            "jemalloc, keeping all freed memory, in huge pages",
            reserved_share=0.15,
            grows=True,  # from 1.15 to 1.94 GiB in 1,220 batches of a training, beyond its bound
            library="jemalloc",
            package="libjemalloc2",
            variables={"MALLOC_CONF": "narenas:1,thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1"},
        ),
        AllocatorKind(
            "mimalloc",
            "mimalloc, keeping all freed memory",
            reserved_share=0.15,
            library="mimalloc",
            package="libmimalloc2.0",
            variables={"MIMALLOC_PURGE_DELAY": "-1", "MIMALLOC_ALLOW_LARGE_OS_PAGES": "1"},
        ),
        AllocatorKind("system", "whatever the environment sets"),
    )
}
"""By name, in the order in which they are measured."""
