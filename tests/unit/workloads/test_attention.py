import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compass.workloads.attention import attend

pytestmark = pytest.mark.usefixtures("one_thread")


def made(heads, n, width, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(heads, n, width, generator=generator, dtype=dtype, requires_grad=True) for _ in range(3)]


def reference(q, k, v, sizes):
    parts = zip(*(tensor.split(list(sizes), dim=1) for tensor in (q, k, v)), strict=True)
    return torch.cat([torch.nn.functional.scaled_dot_product_attention(*part) for part in parts], dim=1)


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4), heads=st.integers(1, 3))
def test_it_is_attention_within_each_member(sizes, heads):
    tensors = made(heads, sum(sizes), 4)
    ours, theirs = attend(*tensors, sizes), reference(*tensors, sizes)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=ours.dtype)
    for one, other in zip(
        torch.autograd.grad((ours * weight).sum(), tensors), torch.autograd.grad((theirs * weight).sum(), tensors),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(one, other)


def test_its_gradient_is_its_slope():
    sizes = (3, 1, 4)
    assert torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, sizes), made(2, 8, 3))


def test_half_precision():
    q, k, v = (tensor.detach().bfloat16() for tensor in made(2, 8, 4))
    found, expected = attend(q, k, v, (5, 3)), reference(q, k, v, (5, 3))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
