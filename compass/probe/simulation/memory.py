"""The memory of a training run as an explicit timeline of allocations.

Each result, gradient, weight copy, workspace and optimizer state is allocated and freed by the simulated allocator, in the
order of eager PyTorch. The peaks follow from that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from compass.probe.segment_names import block_name, by_ends
from compass.probe.simulation.allocator import CachingAllocator
from compass.probe.simulation.step import Op, blocks
from compass.records import Knobs

Counted = Literal["requested", "allocated"]
"""Meaning of live bytes: those that tensors requested, or those of their blocks (see `allocator`)."""
BatchSizes = tuple[int, int, int]
"""(graphs, nodes, edges) of a batch."""
SETTLED_STEPS = 3
"""Optimizer state exists from the second step on; the third shows that nothing grows any more."""


@dataclass(frozen=True)
class Memory:
    """Memory of the device during a sequence of batches."""

    reserved_bytes: tuple[int, ...]
    """Peak of reserved bytes from the start to the end of each step."""
    live_bytes: tuple[int, ...]
    """Peak of live bytes within each step."""
    segments: tuple[tuple[str, int], ...]
    """(segment, its peak of live bytes) of the last step, in order."""


@dataclass(frozen=True)
class _Row:
    """An operation with its sizes in bytes."""

    out: int
    keep: str
    gradient: int
    """Gradient of its inputs; 0 if the backward pass does not go through it."""
    weights: tuple[int, ...]
    """Its weight tensors, always fp32."""
    copy: int
    """Autocast's bf16 copy of a weight matrix."""
    workspace: int
    """Split-K partial sums of the weight gradient."""


def _fill(op: Op, knobs: Knobs, nodes: int, edges: int) -> _Row:
    rows = nodes if op.rows == "nodes" else edges
    narrow = knobs.variant.precision != "fp32"
    width = 2 if narrow and not op.wide else 4
    result_rows = nodes if op.kind == "scatter" else rows
    gradient_rows = nodes if op.kind == "gather" else rows
    matrix = op.kind == "gemm"
    return _Row(
        out=result_rows * op.writes * width,
        keep=op.keep,
        gradient=gradient_rows * op.reads * width if op.gradient else 0,
        weights=tuple(4 * n for n in op.weights),
        copy=2 * op.weights[0] if matrix and narrow else 0,
        workspace=4 * min(16, max(1, rows * op.lanes // 4096)) * op.weights[0] if matrix else 0,
    )


class _Process:
    """One training process: weights, gradients, optimizer states and the passes over the blocks."""

    def __init__(self, knobs: Knobs, workspace_bytes: int, counted: Counted, *, expandable: bool) -> None:
        self.counted = counted
        self.memory = CachingAllocator(expandable=expandable)
        self.knobs = knobs
        self.plan = blocks(knobs)
        self.weights = [4 * n for block in self.plan for op in block for n in op.weights]
        for n_bytes in self.weights:
            self.memory.malloc(n_bytes)
        self.workspace_bytes = workspace_bytes
        self.gradients: list[int] = []
        self.has_states = False

    def step(self, sizes: BatchSizes) -> dict[str, int]:
        """Run one step. Returns the peak of live bytes in each segment, every layer on its own."""
        memory, layers, (graphs, nodes, edges) = self.memory, self.knobs.layers, sizes
        filled = {block: [_fill(op, self.knobs, nodes, edges) for op in block] for block in set(self.plan)}
        rows = [filled[block] for block in self.plan]
        for block in self.gradients:
            memory.free(block)
        self.gradients = []
        memory.start_peaks()
        batch = [memory.malloc(n) for n in (8 * nodes, 12 * nodes, 4 * nodes, 8 * nodes, 16 * edges, 4 * graphs)]
        if self.workspace_bytes:  # taken at the first matrix product, never given back
            memory.malloc(self.workspace_bytes)
            self.workspace_bytes = 0
        checkpointed = range(1, layers + 1) if self.knobs.variant.checkpointing else range(0)
        peaks: dict[str, int] = {}
        saved = []
        for place, ops in enumerate(rows):
            saved.append(self._forward(ops, drop=place in checkpointed))
            self._take_peak(peaks, f"forward:{_place_name(place, layers)}")
        for place in reversed(range(len(rows))):
            kept, name = saved[place], _place_name(place, layers)
            if place in checkpointed:
                kept = [*self._forward(rows[place], drop=False), *kept]
                self._take_peak(peaks, f"recompute:{name}")
            self._backward(rows[place], kept)
            self._take_peak(peaks, f"backward:{name}")
        for block in batch:
            memory.free(block)
        self._optimizer()
        self._take_peak(peaks, "optimizer")
        return peaks

    def _take_peak(self, peaks: dict[str, int], segment: str) -> None:
        """Note the peak since the last call as that of `segment`."""
        memory = self.memory
        peak = memory.peak_requested if self.counted == "requested" else memory.peak_allocated
        peaks[segment] = peak
        memory.start_peaks()

    def _forward(self, ops: list[_Row], *, drop: bool) -> list[tuple[int, int]]:
        """Run a block. Returns the memory that its backward pass needs, as (place of the operation, block of memory).

        With `drop` (activation checkpointing), only the block's outputs are kept.
        """
        malloc, free = self.memory.malloc, self.memory.free
        until_next: list[int] = []
        until_end: list[int] = []
        kept: list[tuple[int, int]] = []
        for place, op in enumerate(ops):
            block = malloc(op.out)
            if op.copy and drop:
                until_end.append(malloc(op.copy))
            elif op.copy:
                kept.append((place, malloc(op.copy)))
            for old in until_next:
                free(old)
            until_next = []
            if op.keep == "next":
                until_next.append(block)
            elif op.keep == "block" or (drop and op.keep == "backward"):
                until_end.append(block)
            else:
                kept.append((place, block))
        for old in until_next + until_end:
            free(old)
        return kept

    def _backward(self, ops: list[_Row], kept: list[tuple[int, int]]) -> None:
        malloc, free = self.memory.malloc, self.memory.free
        of_op: dict[int, list[int]] = {}
        for place, block in kept:
            of_op.setdefault(place, []).append(block)
        upstream: int | None = None
        for place in reversed(range(len(ops))):
            op = ops[place]
            if op.gradient:
                gradient = malloc(op.gradient)
                if op.workspace:
                    free(malloc(op.workspace))
                self.gradients.extend(map(malloc, op.weights))
                if upstream is not None:
                    free(upstream)
                upstream = gradient
            for block in of_op.get(place, ()):
                free(block)
        if upstream is not None:
            free(upstream)

    def _optimizer(self) -> None:
        """AdamW over lists of tensors: two states for each weight, and temporary denominators for all weights at once."""
        malloc = self.memory.malloc
        if not self.has_states:
            for n_bytes in self.weights:
                malloc(n_bytes)
                malloc(n_bytes)
            self.has_states = True
        temporaries = [malloc(n_bytes) for n_bytes in self.weights]
        for block in temporaries:
            self.memory.free(block)


def _place_name(place: int, layers: int) -> str:
    """Segment name of a place in the step: 0 is the stem, `layers + 1` the head."""
    if place in (0, layers + 1):
        return "head" if place else "stem"
    return block_name(place - 1, layers)


@lru_cache(maxsize=20_000)
def simulate_memory(
    knobs: Knobs,
    batches: tuple[BatchSizes, ...],
    workspace_bytes: int,
    counted: Counted = "requested",
    *,
    expandable: bool = False,
) -> Memory:
    """The memory of a fresh process that trains on `batches` in order, and on the last one until nothing changes."""
    process = _Process(knobs, workspace_bytes, counted, expandable=expandable)
    reserved, live = [], []
    peaks: dict[str, int] = {}
    for sizes in (*batches, *[batches[-1]] * (SETTLED_STEPS - 1)):
        peaks = process.step(sizes)
        reserved.append(process.memory.reserved)
        live.append(max(peaks.values()))
    return Memory(tuple(reserved), tuple(live), by_ends(peaks, knobs.layers))
