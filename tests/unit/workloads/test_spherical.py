import numpy as np
import pytest
import torch
from scipy.special import spherical_jn
from torch_geometric.nn.models.dimenet import SphericalBasisLayer

from compass.workloads.spherical import SphericalBasis, bessel_roots

pytestmark = pytest.mark.usefixtures("one_thread")


def test_roots_are_roots_and_none_is_passed_over():
    for order, roots in enumerate(bessel_roots(7, 6)):
        assert np.abs(spherical_jn(order, roots)).max() < 1e-12
        grid = spherical_jn(order, np.linspace(0.5, roots[-1] + 1e-6, 20_000))
        assert int((np.diff(np.sign(grid)) != 0).sum()) == 6


@pytest.mark.slow
def test_it_is_pygs_basis():
    generator = torch.Generator().manual_seed(0)
    lengths = 1.0 + 4.2 * torch.rand(30, generator=generator)  # some beyond the cutoff
    angles = torch.pi * torch.rand(80, generator=generator)
    out_of = torch.randint(30, (80,), generator=generator)
    theirs = SphericalBasisLayer(4, 3, cutoff=5.0)(lengths, angles, out_of)
    ours = SphericalBasis(4, 3, cutoff=5.0)(lengths, torch.cos(angles), out_of)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_near_zero_it_stays_small():
    basis = SphericalBasis(7, 6, cutoff=5.0)
    out = basis(torch.tensor([0.05]), torch.tensor([0.3]), torch.tensor([0]))
    assert out.isfinite().all()
    assert list(basis.parameters()) == []
