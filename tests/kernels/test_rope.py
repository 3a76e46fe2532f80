"""RoPE: layouts, tables of a batch, and what its launcher refuses."""

import pytest
import torch

from warpspan.kernels.rope import reference, rope


def table(*shape, device, generator):
    angle = torch.rand(shape, generator=generator, device=device) * 6.28
    return angle.cos(), angle.sin()


def test_the_layout_stays(device, generator):
    """A transposed view of (batch, tokens, heads, width) comes back as one."""
    q = torch.randn(2, 5, 4, 8, generator=generator, device=device).transpose(1, 2)
    k = torch.randn(2, 5, 1, 8, generator=generator, device=device).transpose(1, 2)
    turned = rope(q, k, *table(1, 5, 8, device=device, generator=generator))
    assert (q.stride(), k.stride()) == tuple(one.stride() for one in turned)


def test_each_sequence_may_have_its_own_positions(device, generator):
    """cos and sin with a batch dimension, and halves that differ."""
    q, k = (torch.randn(3, 2, 4, 8, generator=generator, device=device) for _ in range(2))
    cos, sin = table(3, 4, 8, device=device, generator=generator)
    pairs = zip(reference(q, k, cos, sin), rope(q, k, cos, sin), strict=True)
    assert all(torch.allclose(expected, out, atol=1e-6) for expected, out in pairs)


@pytest.mark.parametrize(
    ("k", "cos", "sentence"),
    [
        ((1, 1, 5, 8), (1, 4, 8), "differ in the number of heads only"),
        ((1, 1, 4, 8), (1, 4, 4), "cos and sin must have the shape"),
        ((1, 1, 4, 8), (2, 4, 8), "cos and sin must have the shape"),
    ],
)
def test_what_does_not_fit_is_told(k, cos, sentence, device):
    """One sentence says what was wrong and what fits."""
    q = torch.zeros(1, 2, 4, 8, device=device)
    tables = (torch.zeros(cos, device=device) for _ in range(2))
    with pytest.raises(ValueError, match=sentence):
        rope(q, torch.zeros(k, device=device), *tables)


def test_an_odd_width_is_refused(device):
    """There are two halves."""
    q, cos = torch.zeros(1, 1, 2, 7, device=device), torch.zeros(1, 2, 7, device=device)
    with pytest.raises(ValueError, match="must be even, not 7"):
        rope(q, q, cos, cos)
