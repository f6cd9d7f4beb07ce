"""Every kind of physics, by its name. To add one: a class in the file of its kind, and its place here."""

from __future__ import annotations

from benchmarks.foreign.clocks import Autotuned, HeavyTails, SingleCrash, Throttling
from benchmarks.foreign.holdings import FixedSegments, HostConstant, MigSlice, ShuffledFragmentation, SlowFragmentation
from benchmarks.foreign.loads import CompetingPeaks, ConvexFeatures, LaunchBound, ThreeFeatures
from benchmarks.foreign.neighbours import BurstyNeighbours, DataParallel, UnifiedMemory
from benchmarks.foreign.physics import Physics
from benchmarks.foreign.plain import Linear
from benchmarks.foreign.rates import CacheCliff, Numa, RecomputeBySize, Spill, SuperlinearEdges
from benchmarks.foreign.widths import Aligned64, Aligned128, InvalidShape, SteppedWorkspace

KINDS: dict[str, type[Physics]] = {
    kind.name: kind
    for kind in (
        Linear,
        CacheCliff,
        Numa,
        Spill,
        SuperlinearEdges,
        RecomputeBySize,
        Aligned64,
        Aligned128,
        SteppedWorkspace,
        InvalidShape,
        ThreeFeatures,
        ConvexFeatures,
        CompetingPeaks,
        LaunchBound,
        Autotuned,
        HeavyTails,
        SingleCrash,
        UnifiedMemory,
        DataParallel,
        MigSlice,
        FixedSegments,
        HostConstant,
        ShuffledFragmentation,
        Throttling,
        BurstyNeighbours,
        SlowFragmentation,
    )
}
FAIR = tuple(name for name, kind in KINDS.items() if kind.fair)
"""Kinds that short probes can know."""
