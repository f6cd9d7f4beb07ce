"""The time of each kernel of a step on a machine, and the queue between host and device.

There are four kinds of kernels:

- *matrix products* run in tiles on multiprocessors, in whole waves. Short dimensions fill a tile badly. Weight gradients have
  few tiles and are split along the sum (split-K). Small products are limited by bandwidth.
- *maps* (element-wise, norms, sums over a feature) are limited by bandwidth. Few threads cannot saturate it; a cache that
  holds all data multiplies it.
- *gathers* fetch whole cache lines, so shorter rows waste bandwidth. A table that fits the cache is cheap.
- *scatters* add atomically, at a rate that falls if many edges meet at a node.

The host launches kernels one after another. The device starts a kernel when it has been launched and the previous one is
done. A step of small kernels therefore takes as long as the host, a step of large ones as long as the device. Loads are
arrays, so that an exhaustive oracle can compute all batch sizes at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compass.probe.simulation.machines import Machine
from compass.probe.simulation.step import Op, blocks, n_parameters
from compass.records import Knobs

_Floats = NDArray[np.float64]
Engine = Literal["product", "weight_gradient", "map", "gather", "scatter"]

_TILES = ((128, 128, 1.0), (128, 64, 0.84), (64, 64, 0.72), (64, 32, 0.5))
"""(rows, columns, share of the multiprocessor's peak) of the matrix kernels a library chooses from."""
_TILE_START_S = 1.1e-6
"""Filling a tile's pipeline and writing it back."""
_STREAM_SHARE = 0.88
"""Share of the datasheet's bandwidth that a copy reaches."""
_THREADS = 2048
"""Threads resident on a multiprocessor."""
_CACHE_GAIN = 1.12
"""Factor on the bandwidth if all data of a kernel fits the second-level cache. The cache is three times as fast as memory, but
half of the traffic is writes, and most data was last used many kernels ago."""
_ATOMICS_PER_MULTIPROCESSOR = 9e9
"""fp32 additions per second in one multiprocessor's share of the cache."""
_LINE = 128
_SECTOR = 32


@dataclass(frozen=True)
class _Kernel:
    """One launch, independent of the load."""

    engine: Engine
    on_nodes: bool
    reads: int
    writes: int
    lanes: int
    inner: int
    outer: int
    width: int
    """Bytes per element."""
    host: float
    """Host time in units of the machine's dispatch."""


_FORWARD_HOST = {"gemm": 2.0, "map": 1.3, "gather": 1.8, "scatter": 3.0}
"""Host time in units of the dispatch cost. A linear layer is a module call; PyG's scatter first expands its index."""
_BACKWARD_HOST = 0.9
"""The same in the backward pass: autograd runs in C++, without Python between kernels."""


def _forward_kernels(op: Op, knobs: Knobs) -> list[_Kernel]:
    width = 2 if knobs.variant.precision != "fp32" and not op.wide else 4
    engine: Engine = "product" if op.kind == "gemm" else op.kind
    on_nodes = op.rows == "nodes"
    kernel = _Kernel(engine, on_nodes, op.reads, op.writes, op.lanes, op.inner, op.outer, width, _FORWARD_HOST[op.kind])
    return [kernel]


def _backward_kernels(op: Op, knobs: Knobs) -> list[_Kernel]:
    if not op.gradient:
        return []
    width = 2 if knobs.variant.precision != "fp32" and not op.wide else 4
    on_nodes, host = op.rows == "nodes", _BACKWARD_HOST

    def kernel(engine: Engine, reads: int, writes: int, inner: int = 0, outer: int = 0) -> _Kernel:
        return _Kernel(engine, on_nodes, reads, writes, op.lanes, inner, outer, width, host)

    if op.kind == "gemm":
        products = [
            kernel("product", op.writes, op.reads, op.outer, op.inner),
            kernel("weight_gradient", op.reads, op.writes, op.inner, op.outer),
        ]
        return products + ([kernel("map", op.writes, 0)] if len(op.weights) > 1 else [])
    if op.kind == "gather":
        return [kernel("scatter", op.writes, op.reads)]
    if op.kind == "scatter":
        return [kernel("gather", op.writes, op.reads)]
    return [kernel("map", op.reads + op.writes, op.reads)]


class _Table:
    """Kernels in launch order, as columns (k, 1) that broadcast over loads (b,)."""

    def __init__(self, kernels: list[_Kernel]) -> None:
        def column(name: str) -> _Floats:
            return np.array([getattr(k, name) for k in kernels], dtype=float)[:, None]

        self.engine = np.array([k.engine for k in kernels])
        self.on_nodes = column("on_nodes").astype(bool)
        self.reads, self.writes = column("reads"), column("writes")
        self.lanes, self.inner, self.outer = column("lanes"), column("inner"), column("outer")
        self.width, self.host = column("width"), column("host")[:, 0]

    def seconds(self, machine: Machine, nodes: _Floats, edges: _Floats) -> _Floats:
        """Device time of each kernel at each load, (k, b)."""
        rows = np.where(self.on_nodes, nodes, edges)
        result = np.empty(rows.shape)
        for engine in np.unique(self.engine):
            chosen = self.engine == engine
            part = _Columns(
                rows[chosen],
                *(c[chosen] for c in (self.reads, self.writes, self.lanes, self.inner, self.outer, self.width)),
            )
            if engine == "product":
                result[chosen] = _product_s(machine, part)
            elif engine == "weight_gradient":
                result[chosen] = _weight_gradient_s(machine, part)
            elif engine == "map":
                result[chosen] = _map_s(machine, part.rows * part.reads, part.rows * part.writes, part.width)
            elif engine == "gather":
                result[chosen] = _gather_s(machine, part, nodes)
            else:
                result[chosen] = _scatter_s(machine, part, nodes, edges)
        return np.maximum(result, machine.launch_floor_s)


@dataclass(frozen=True)
class _Columns:
    """The columns of kernels of one engine: rows (k, b), all others (k, 1)."""

    rows: _Floats
    reads: _Floats
    writes: _Floats
    lanes: _Floats
    inner: _Floats
    outer: _Floats
    width: _Floats


def _cached(machine: Machine, n_bytes: _Floats) -> _Floats:
    """Share of a working set that the second-level cache serves, 0 to 1."""
    return 1.0 / (1.0 + (n_bytes / (0.6 * machine.l2_bytes)) ** 2)


def _peak(machine: Machine, width: _Floats) -> _Floats:
    """FLOP/s of matrix products with 2 or 4 bytes per element."""
    narrow = machine.bf16_flops or 0.5 * machine.vector_flops
    return np.where(width == 2, narrow, machine.tf32_flops or machine.vector_flops)


def _summed(machine: Machine, inner: _Floats, width: _Floats) -> _Floats:
    """The summed dimension as the kernel pads it: to 128 bytes on tensor cores, to 8 elements otherwise."""
    tensor = (width == 2) & (machine.bf16_flops is not None) | (width == 4) & (machine.tf32_flops is not None)
    step = np.where(tensor, 128 / width, 8.0)
    return np.ceil(inner / step) * step


def _product_s(machine: Machine, k: _Columns) -> _Floats:
    matrix_rows = k.rows * k.lanes
    per_multiprocessor = _peak(machine, k.width) / machine.n_multiprocessors
    best = np.full(matrix_rows.shape, np.inf)
    for high, wide, share in _TILES:
        n_tiles = np.ceil(matrix_rows / high) * np.ceil(k.outer / wide)
        waves = np.ceil(n_tiles / machine.n_multiprocessors)
        # The last of many waves overlaps with the one before, so rounding to whole waves matters for few waves only.
        waves = np.where(waves > 8, n_tiles / machine.n_multiprocessors + 0.5, waves)
        tile_s = 2 * high * wide * _summed(machine, k.inner, k.width) / (per_multiprocessor * share)
        best = np.minimum(best, waves * (tile_s + _TILE_START_S / 4) + _TILE_START_S)
    traffic_s = _stream_s(machine, k.rows * (k.reads + k.writes) * k.width, k.rows * k.writes)
    return _overlapped(best, traffic_s)


def _weight_gradient_s(machine: Machine, k: _Columns) -> _Floats:
    summed = k.rows * k.lanes
    per_multiprocessor = _peak(machine, k.width) / machine.n_multiprocessors
    n_tiles = np.ceil(k.inner / 64) * np.ceil(k.outer / 64)
    splits = np.clip(np.floor(2 * machine.n_multiprocessors / n_tiles), 1, np.maximum(1, summed / 512))
    waves = np.ceil(n_tiles * splits / machine.n_multiprocessors)
    tile_s = 2 * 64 * 64 * _summed(machine, summed / splits, k.width) / (per_multiprocessor * 0.62)
    reduce_s = splits * k.inner * k.outer * 8 / (2 * machine.bandwidth)  # stays in the cache
    traffic_s = _stream_s(machine, k.rows * (k.reads + k.writes) * k.width, k.rows * k.reads)
    compute_s = waves * tile_s + 2 * _TILE_START_S + reduce_s
    return _overlapped(compute_s, traffic_s)


def _overlapped(compute_s: _Floats, traffic_s: _Floats) -> _Floats:
    """Time of both with imperfect overlap: a fifth more than either if they are equal."""
    together: _Floats = (compute_s**4 + traffic_s**4) ** 0.25
    return together


def _stream_s(machine: Machine, n_bytes: _Floats, n_threads: _Floats) -> _Floats:
    """Seconds to move `n_bytes` with `n_threads` in flight."""
    in_flight = 1.0 - np.exp(-(n_threads + 256.0) / (0.5 * machine.n_multiprocessors * _THREADS))
    bandwidth = machine.bandwidth * _STREAM_SHARE * (1.0 + (_CACHE_GAIN - 1.0) * _cached(machine, n_bytes))
    return n_bytes / (bandwidth * in_flight)


def _map_s(machine: Machine, reads: _Floats, writes: _Floats, width: _Floats) -> _Floats:
    # A sum over rows (a bias gradient) writes almost nothing; its threads follow the elements that it reads.
    n_threads = np.where(writes > 0, writes, reads / 4)
    return machine.launch_floor_s / 2 + _stream_s(machine, (reads + writes) * width, n_threads)


def _touched(row_bytes: _Floats) -> _Floats:
    """Bytes fetched for one row at an arbitrary address: whole sectors, and part of a line for unaligned rows."""
    sectors = np.ceil(row_bytes / _SECTOR) * _SECTOR
    return sectors + np.where(row_bytes % _LINE == 0, 0.0, 0.35 * _LINE)


def _gather_s(machine: Machine, k: _Columns, nodes: _Floats) -> _Floats:
    fetched = _touched(k.reads * k.width) * (1.0 - 0.85 * _cached(machine, nodes * k.reads * k.width))
    return machine.launch_floor_s / 2 + _stream_s(
        machine, k.rows * (8 + fetched + k.writes * k.width), k.rows * k.writes
    )


def _scatter_s(machine: Machine, k: _Columns, nodes: _Floats, edges: _Floats) -> _Floats:
    degree = edges / np.maximum(nodes, 1)
    rate = _ATOMICS_PER_MULTIPROCESSOR * machine.n_multiprocessors / (1.0 + degree / 64)
    traffic_s = _stream_s(machine, k.rows * (8 + _touched(k.reads * k.width)), k.rows * k.reads)
    return machine.launch_floor_s / 2 + np.maximum(traffic_s, k.rows * k.reads / rate)


@dataclass(frozen=True)
class _Stretch:
    """A sequence of kernels, reduced to the figures that the queue needs; `device_s` and `latest_s` are (b,)."""

    host_s: float
    device_s: _Floats
    latest_s: _Floats
    """Time from the host's start to the device's end, if the device was idle at the start."""


class _Queue:
    """Host and device, each with its own clock."""

    def __init__(self, n_loads: int) -> None:
        self.sent_s: _Floats = np.zeros(n_loads)
        self.done_s: _Floats = np.zeros(n_loads)
        self.busy_host_s = 0.0

    def run(self, stretch: _Stretch) -> None:
        self.done_s = np.maximum(self.done_s + stretch.device_s, self.sent_s + stretch.latest_s)
        self.sent_s = self.sent_s + stretch.host_s
        self.busy_host_s += stretch.host_s

    def wait(self, latency_s: float) -> None:
        """Let the host wait for the device, as reading the loss does."""
        self.done_s = np.maximum(self.done_s, self.sent_s)
        self.sent_s = self.done_s + latency_s


def _reduce(machine: Machine, table: _Table, nodes: _Floats, edges: _Floats) -> _Stretch:
    """A sequence from its kernels: the device ends at the maximum over j of (launch of j + time of kernels from j on)."""
    device = table.seconds(machine, nodes, edges)
    sent = np.cumsum(table.host) * machine.dispatch_s
    remaining = np.cumsum(device[::-1], axis=0)[::-1]
    return _Stretch(float(sent[-1]), device.sum(axis=0), (sent[:, None] + remaining).max(axis=0))


@lru_cache(maxsize=4096)
def _tables(block: tuple[Op, ...], knobs: Knobs) -> tuple[_Table, _Table]:
    """Kernels of a block's forward and backward pass."""
    forward = [kernel for op in block for kernel in _forward_kernels(op, knobs)]
    backward = [kernel for op in reversed(block) for kernel in _backward_kernels(op, knobs)]
    if knobs.variant.precision != "fp32":  # each weight matrix is cast once per step, in a launch of its own
        casts = sum(1 for op in block if op.kind == "gemm")
        cast = _Kernel("map", on_nodes=True, reads=0, writes=0, lanes=1, inner=0, outer=0, width=2, host=0.8)
        forward += [cast] * casts
    return _Table(forward), _Table(backward)


def _optimizer(machine: Machine, knobs: Knobs, n_loads: int) -> _Stretch:
    """Norm clipping and AdamW in multi-tensor kernels: about eleven passes, with some thirty tensors per launch."""
    n_tensors = sum(len(op.weights) for block in blocks(knobs) for op in block)
    n_launches = 11 * -(-n_tensors // 30)
    traffic = np.full(n_loads, 4.0 * 19 * n_parameters(knobs))
    device_s = _stream_s(machine, traffic, traffic / 4) + n_launches * machine.launch_floor_s
    host_s = (1.2 * n_launches + 0.9 * n_tensors) * machine.dispatch_s  # its Python code loops over all tensors
    return _Stretch(host_s, device_s, np.maximum(device_s, host_s))


def step_seconds(machine: Machine, knobs: Knobs, nodes: _Floats, edges: _Floats) -> tuple[_Floats, float]:
    """Seconds (b,) of a settled step without noise at each load, and the host's own seconds in it."""
    nodes, edges = np.atleast_1d(nodes).astype(float), np.atleast_1d(edges).astype(float)
    plan = blocks(knobs)
    stretches = {}
    for block in set(plan):
        forward, backward = _tables(block, knobs)
        stretches[block] = _reduce(machine, forward, nodes, edges), _reduce(machine, backward, nodes, edges)
    queue = _Queue(len(nodes))
    for block in plan:
        queue.run(stretches[block][0])
    queue.wait(20e-6)
    for place in reversed(range(len(plan))):
        if knobs.variant.checkpointing and 0 < place <= knobs.layers:
            queue.run(stretches[plan[place]][0])
        queue.run(stretches[plan[place]][1])
    queue.run(_optimizer(machine, knobs, len(nodes)))
    queue.wait(20e-6)
    return queue.done_s, queue.busy_host_s
