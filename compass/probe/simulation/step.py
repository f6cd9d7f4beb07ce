"""The operations of a ViSNet training step: shapes, lifetimes and weights, without times and bytes.

They follow PyG's `torch_geometric.nn.models.visnet` (Wang et al., Nature Communications 2024) as eager PyTorch runs it.
Parameter counts follow from the same list and equal those of the real model.

Notation: C channels, V components of a vector feature ((lmax + 1)² − 1), H heads, R radial basis functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from compass.records import Knobs, Variant

EMBEDDING_ROWS = 238
"""119 elements, twice, because ligand atoms have their own range of the embedding."""
DEFAULT_OPTIONS = {"heads": 8, "lmax": 1, "rbf": 32}
"""PyG's defaults, for knobs without these options."""

OpKind = Literal["gemm", "map", "gather", "scatter"]
Rows = Literal["nodes", "edges"]
Keep = Literal["next", "block", "backward", "output"]
"""Lifetime of a result: through the next operation, to the end of its block, or until the backward pass has used it; `output`
is the last, even if the block is checkpointed."""


@dataclass(frozen=True)
class Op:
    """One forward operation. Its backward operations follow from its kind."""

    kind: OpKind
    rows: Rows
    """The items of which each has a row in its result; for `scatter`, in its input."""
    reads: int
    """Elements read per row."""
    writes: int
    """Elements written per row."""
    keep: Keep
    lanes: int = 1
    """Matrix rows per row: V for vector features, else 1."""
    inner: int = 0
    """Summed dimension of a matrix product."""
    outer: int = 0
    """Output dimension of a matrix product."""
    weights: tuple[int, ...] = ()
    """Number of elements of each weight tensor."""
    wide: bool = False
    """Whether it stays fp32 under autocast."""
    gradient: bool = True
    """Whether the backward pass goes through it."""


def _linear(rows: Rows, inner: int, outer: int, keep: Keep, *, lanes: int = 1, bias: bool = True) -> Op:
    weights = (inner * outer, outer) if bias else (inner * outer,)
    return Op("gemm", rows, lanes * inner, lanes * outer, keep, lanes, inner, outer, weights)


def _map(rows: Rows, reads: int, writes: int, keep: Keep, *, wide: bool = False) -> Op:
    return Op("map", rows, reads, writes, keep, wide=wide)


def _norm(rows: Rows, width: int, *, trainable: bool) -> Op:
    return Op("map", rows, width, width, "backward", wide=True, weights=(width, width) if trainable else ())


def _gather(width: int) -> Op:
    return Op("gather", "edges", width, width, "backward")


def _scatter(width: int, keep: Keep) -> Op:
    return Op("scatter", "edges", width, width, keep)


def _casts(variant: Variant, *widths: tuple[Rows, int]) -> list[Op]:
    """Autocast's copies of the fp32 residual stream."""
    return [_map(rows, w, w, "backward") for rows, w in widths] if variant.precision != "fp32" else []


def _shape(variant: Variant) -> tuple[int, int, int]:
    """(V, H, R) of a variant."""
    options = DEFAULT_OPTIONS | {name: int(value) for name, value in variant.options}
    return (options["lmax"] + 1) ** 2 - 1, options["heads"], options["rbf"]


@lru_cache(maxsize=512)
def stem(channels: int, variant: Variant) -> tuple[Op, ...]:
    """Embedding, geometry, radial basis, neighbour and edge embedding."""
    c, (v, _, r) = channels, _shape(variant)
    table = Op("map", "nodes", c, c, "backward", wide=True, weights=(EMBEDDING_ROWS * c,))
    return (
        table,
        Op("map", "edges", 6, 3, "backward", wide=True, gradient=False),
        Op("map", "edges", 3, 1, "backward", wide=True, gradient=False),
        Op("map", "edges", 3, v, "backward", wide=True, gradient=False),
        *(Op("map", "edges", reads, r, "next", wide=True, gradient=False) for reads in (1, r, r, r)),
        Op("map", "edges", r, r, "backward", wide=True, gradient=False),
        _linear("edges", r, c, "backward"),
        _map("edges", c + 1, c, "backward"),
        table,
        _gather(c),
        _map("edges", 2 * c, c, "next"),
        _scatter(c, "block"),
        _map("nodes", 2 * c, 2 * c, "backward"),
        _linear("nodes", 2 * c, c, "output"),
        Op("map", "nodes", 0, v * c, "output", wide=True, gradient=False),
        _gather(c),
        _gather(c),
        _map("edges", 2 * c, c, "backward"),
        _linear("edges", r, c, "backward"),
        _map("edges", 2 * c, c, "output", wide=True),
    )


def _attention(c: int, v: int, h: int) -> list[Op]:
    """Messages from neighbours: scalars weighted by attention, vectors weighted by gates."""
    return [
        _gather(c),
        _gather(c),
        _gather(c),
        _gather(v * c),
        _map("edges", 2 * c, c, "backward"),
        _map("edges", 2 * c, c, "next"),
        _map("edges", c, h, "backward"),
        _map("edges", h + 1, h, "backward"),
        _map("edges", 2 * c, c, "backward"),
        _map("edges", c + h, c, "backward"),
        _linear("edges", c, 2 * c, "backward"),
        _map("edges", 2 * c, 2 * c, "backward"),
        _map("edges", v * c + c, v * c, "next"),
        _map("edges", c + v, v * c, "next"),
        _map("edges", 2 * v * c, v * c, "block"),
        _scatter(c, "backward"),
        _scatter(v * c, "block"),
    ]


def _rejection(c: int, v: int) -> list[Op]:
    """One side of the edge update: the neighbour's projected vectors minus their part along the edge."""
    return [
        _gather(v * c),
        _linear("edges", c, c, "block", lanes=v, bias=False),
        _map("edges", v * c + v, v * c, "next"),
        _map("edges", v * c, c, "next"),
        _map("edges", c + v, v * c, "next"),
        _map("edges", 2 * v * c, v * c, "backward"),
    ]


def _edge_update(c: int, v: int) -> list[Op]:
    return [
        *_rejection(c, v),
        *_rejection(c, v),
        _map("edges", 2 * v * c, v * c, "next"),
        _map("edges", v * c, c, "backward"),
        _linear("edges", c, c, "backward"),
        _map("edges", c, c, "backward"),
        _map("edges", 2 * c, c, "next"),
    ]


@lru_cache(maxsize=512)
def layer(channels: int, variant: Variant, *, last: bool) -> tuple[Op, ...]:
    """One message-passing layer. The last one does not update the edges."""
    c, (v, h, _) = channels, _shape(variant)
    residuals = [_map("nodes", 2 * c, c, "output", wide=True), _map("nodes", 2 * v * c, v * c, "output", wide=True)]
    if not last:
        residuals.append(_map("edges", 2 * c, c, "output", wide=True))
    return (
        _norm("nodes", c, trainable=True),
        _norm("nodes", v * c, trainable=False),
        *_casts(variant, ("nodes", c), ("nodes", v * c), ("edges", c)),
        *(_linear("nodes", c, c, "block") for _ in range(3)),
        _linear("edges", c, c, "backward"),
        _map("edges", c, c, "backward"),
        _linear("edges", c, c, "backward"),
        _map("edges", c, c, "backward"),
        _linear("nodes", c, 3 * c, "backward", lanes=v, bias=False),
        _map("nodes", 2 * v * c, v * c, "next"),
        _map("nodes", v * c, c, "backward"),
        *_attention(c, v, h),
        _linear("nodes", c, 3 * c, "backward"),
        _map("nodes", 2 * c, c, "next"),
        _map("nodes", 2 * c, c, "block"),
        _map("nodes", v * c + c, v * c, "next"),
        _map("nodes", 2 * v * c, v * c, "block"),
        *([] if last else _edge_update(c, v)),
        *residuals,
    )


def _gated(hidden: int, out: int, v: int) -> list[Op]:
    """A gated equivariant block of the head."""
    return [
        _linear("nodes", hidden, hidden, "backward", lanes=v, bias=False),
        _map("nodes", v * hidden, hidden, "backward"),
        _linear("nodes", hidden, out, "backward", lanes=v, bias=False),
        _map("nodes", 2 * hidden, 2 * hidden, "backward"),
        _linear("nodes", 2 * hidden, hidden, "backward"),
        _map("nodes", hidden, hidden, "backward"),
        _linear("nodes", hidden, 2 * out, "backward"),
        _map("nodes", v * out + out, v * out, "backward"),
    ]


@lru_cache(maxsize=512)
def head(channels: int, variant: Variant) -> tuple[Op, ...]:
    """Final norms, two gated blocks, the readout and the loss."""
    c, (v, _, _) = channels, _shape(variant)
    return (
        _norm("nodes", c, trainable=True),
        _norm("nodes", v * c, trainable=False),
        *_casts(variant, ("nodes", c), ("nodes", v * c)),
        *_gated(c, c // 2, v),
        *_gated(c // 2, 1, v),
        _map("nodes", 2, 1, "backward", wide=True),
        _map("nodes", 2, 1, "block", wide=True),
    )


def blocks(knobs: Knobs) -> tuple[tuple[Op, ...], ...]:
    """The step's blocks in forward order: stem, `knobs.layers` layers, head."""
    inner = layer(knobs.channels, knobs.variant, last=False)
    last = layer(knobs.channels, knobs.variant, last=True)
    return (
        stem(knobs.channels, knobs.variant),
        *[inner] * (knobs.layers - 1),
        last,
        head(knobs.channels, knobs.variant),
    )


def n_parameters(knobs: Knobs) -> int:
    """Trainable parameters, equal to those of PyG's `ViSNetBlock` and `EquivariantScalar`."""
    return sum(sum(op.weights) for block in blocks(knobs) for op in block)
