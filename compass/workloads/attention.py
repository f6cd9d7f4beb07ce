"""Attention within each of several concatenated sequences, without padding.

The memory of a batch is then the sum over its members, so it can be predicted from their sizes. That of a batch padded to its
longest member cannot.

Notation: N rows in total, H heads, D channels per head; member i has nᵢ rows, P = Σ nᵢ² pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch


class _Attention(torch.autograd.Function):
    """softmax(Q Kᵀ / √D) V, block by block. All intermediate matrices share one buffer for the whole batch."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        """The attended values (H, N, D) of `q`, `k`, `v` (H, N, D)."""
        scale = q.shape[-1] ** -0.5
        weights = q.new_empty(q.shape[0] * sum(n * n for n in sizes))
        out = torch.empty_like(v)
        for rows, block in _blocks(weights, q.shape[0], sizes):
            torch.bmm(q[:, rows], k[:, rows].transpose(1, 2), out=block)
            block.mul_(scale)
            block.sub_(block.amax(-1, keepdim=True)).exp_().div_(block.sum(-1, keepdim=True))
            torch.bmm(block, v[:, rows], out=out[:, rows])
        ctx.save_for_backward(q, k, v, out, weights)
        ctx.sizes = tuple(sizes)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """Gradients of `q`, `k`, `v`. For the softmax, dS = A ∘ (dA − rowsum(dA ∘ A)), where the row sum equals that of dO ∘ O."""
        q, k, v, out, weights = ctx.saved_tensors
        scale, heads = q.shape[-1] ** -0.5, q.shape[0]
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        slopes = torch.empty_like(weights)
        row_sums = (grad * out).sum(-1, keepdim=True)
        blocks = zip(_blocks(weights, heads, ctx.sizes), _blocks(slopes, heads, ctx.sizes), strict=True)
        for (rows, block), (_, slope) in blocks:
            torch.bmm(block.transpose(1, 2), grad[:, rows], out=grad_v[:, rows])
            torch.bmm(grad[:, rows], v[:, rows].transpose(1, 2), out=slope)
            slope.sub_(row_sums[:, rows]).mul_(block).mul_(scale)
            torch.bmm(slope, k[:, rows], out=grad_q[:, rows])
            torch.bmm(slope.transpose(1, 2), q[:, rows], out=grad_k[:, rows])
        return grad_q, grad_k, grad_v, None


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Attention (H, N, D) of queries, keys and values (H, N, D) within each member; `sizes` are the members' rows, N in total."""
    attended: torch.Tensor = _Attention.apply(q, k, v, sizes)  # type: ignore[no-untyped-call]
    return attended


def _blocks(flat: torch.Tensor, heads: int, sizes: Sequence[int]) -> Iterator[tuple[slice, torch.Tensor]]:
    """Each member's rows, and its part (H, n, n) of `flat` (H·P,)."""
    row, place = 0, 0
    for n in sizes:
        yield slice(row, row + n), flat[place : place + heads * n * n].view(heads, n, n)
        row, place = row + n, place + heads * n * n
