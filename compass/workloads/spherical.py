"""DimeNet's basis in a distance and an angle: spherical Bessel functions times Legendre polynomials.

Notation: S orders l, R roots n of each, e edges, t triplets.

    a_ln(x, θ) = u(x) · √2 / |j_{l+1}(z_ln)| · j_l(z_ln x) · √((2l+1)/4π) · P_l(cos θ)

x is the distance as a share of the cutoff, z_ln the n-th root of j_l, u the envelope that goes smoothly to zero at the cutoff.
PyG derives the same functions with sympy, which takes half a minute; this module uses recurrences.
"""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import spherical_jn
from torch_geometric.nn.models.dimenet import Envelope

SMALL, STABLE = 1.0, 2
"""Below the argument SMALL, the recurrence is inexact from order STABLE on; two terms of the series are used there."""


class SphericalBasis(torch.nn.Module):
    """The basis of `n_orders` × `n_roots` functions. It has no weights."""

    roots: torch.Tensor
    norms: torch.Tensor

    def __init__(self, n_orders: int, n_roots: int, cutoff: float, envelope_exponent: int = 5) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.envelope = Envelope(envelope_exponent)
        roots = np.array(bessel_roots(n_orders, n_roots))
        orders = np.arange(n_orders)
        norms = math.sqrt(2) / np.abs([spherical_jn(order + 1, roots[order]) for order in orders])
        norms *= np.sqrt((2 * orders + 1) / (4 * math.pi))[:, None]
        self.register_buffer("roots", torch.tensor(roots, dtype=torch.float32), persistent=False)
        self.register_buffer("norms", torch.tensor(norms, dtype=torch.float32), persistent=False)

    def forward(self, lengths: torch.Tensor, cosines: torch.Tensor, out_of: torch.Tensor) -> torch.Tensor:
        """The basis (t, S·R), from `lengths` (e,) of edges and `cosines` (t,) of their angles with the edges `out_of` (t,)."""
        shares = lengths / self.cutoff
        radial = _bessel(shares[:, None, None] * self.roots) * self.norms * self.envelope(shares)[:, None, None]
        angular = _legendre(cosines, len(self.roots))
        both: torch.Tensor = radial[out_of] * angular[:, :, None]
        return both.flatten(1)


@cache
def bessel_roots(n_orders: int, n_roots: int) -> tuple[tuple[float, ...], ...]:
    """The first roots of j_0, j_1, …. Between two roots of one order lies one of the next order."""
    roots = [math.pi * n for n in range(1, n_roots + n_orders)]
    found = [tuple(roots[:n_roots])]
    for order in range(1, n_orders):
        roots = [
            float(brentq(lambda z, k=order: spherical_jn(k, z), low, high)) for low, high in itertools.pairwise(roots)
        ]
        found.append(tuple(roots[:n_roots]))
    return tuple(found)


def _bessel(z: torch.Tensor) -> torch.Tensor:
    """j_l(z) for `z` (e, S, R), order l in row l."""
    before, now = torch.cos(z) / z, torch.sin(z) / z  # j_{-1} and j_0
    rows, double_factorial = [], 1.0
    for order in range(z.shape[1]):
        double_factorial *= 2 * order + 1
        row = z[:, order]
        if order < STABLE:
            rows.append(now[:, order])
        else:
            series = row**order / double_factorial * (1 - row**2 / (2 * (2 * order + 3)))
            rows.append(torch.where(row < SMALL, series, now[:, order]))
        before, now = now, (2 * order + 1) / z * now - before
    return torch.stack(rows, dim=1)


def _legendre(x: torch.Tensor, n: int) -> torch.Tensor:
    """P_0 to P_{n−1} at `x` (t,): (t, n)."""
    rows = [torch.ones_like(x), x]
    for order in range(1, n - 1):
        rows.append(((2 * order + 1) * x * rows[-1] - order * rows[-2]) / (order + 1))
    return torch.stack(rows[:n], dim=1)
