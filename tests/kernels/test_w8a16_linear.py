"""Linear with int8 weights: quantization, bias, and what is refused."""

import pytest
import torch

from warpspan.kernels.w8a16_linear import quantize, reference, w8a16_linear


def test_quantization_is_off_by_half_a_step_at_most(generator):
    """Each row by its own scale; a row of zeros stays zeros."""
    weight = torch.randn(5, 33, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    whole, scale = quantize(weight)
    assert torch.int8 == whole.dtype
    assert bool(((whole * scale[:, None] - weight).abs() <= scale[:, None] * 0.5001).all())
    assert 0 == int(whole[3].abs().max())


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_leading_dimensions_and_bias(rows, biased, device, generator):
    """(batch, tokens, inputs) with and without a bias, by both kernels."""
    x = torch.randn(1, rows, 40, generator=generator, device=device)
    weight, scale = quantize(torch.randn(24, 40, generator=generator, device=device))
    bias = torch.randn(24, generator=generator, device=device) if biased else None
    out = w8a16_linear(x, weight, scale, bias)
    assert (1, rows, 24) == out.shape
    assert torch.allclose(reference(x, weight, scale, bias), out, atol=1e-4)


@pytest.mark.parametrize(
    ("x", "weight", "scale", "bias", "sentence"),
    [
        ((1, 8), torch.zeros(4, 8), (4,), None, "quantize\\(\\) makes one"),
        ((1, 9), torch.zeros(4, 8, dtype=torch.int8), (4,), None, "do not fit"),
        ((1, 8), torch.zeros(4, 8, dtype=torch.int8), (8,), None, "do not fit"),
        ((1, 8), torch.zeros(4, 8, dtype=torch.int8), (4,), (8,), "bias must have"),
    ],
)
def test_what_does_not_fit_is_told(x, weight, scale, bias, sentence, device):
    """One sentence says what was wrong and what fits."""
    given = None if bias is None else torch.zeros(bias, device=device)
    with pytest.raises(ValueError, match=sentence):
        w8a16_linear(
            torch.zeros(x, device=device),
            weight.to(device),
            torch.zeros(scale, device=device),
            given,
        )
