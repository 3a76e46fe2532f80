"""LayerNorm with a residual: rows that a one-pass variance gets wrong, and what is refused."""

import pytest
import torch

from warpspan.kernels.add_layer_norm import add_layer_norm, reference


def test_a_large_mean_does_not_drown_the_variance(device, generator):
    """Values around 10000 with a spread of 1: the squares alone would cancel in float32."""
    x = torch.randn(3, 4096, generator=generator, device=device) + 1e4
    zero, one = torch.zeros(4096, device=device), torch.ones(4096, device=device)
    exact = reference(*(t.double() for t in (x, torch.zeros_like(x), one, zero)))
    assert float((add_layer_norm(x, torch.zeros_like(x), one, zero) - exact).abs().max()) < 2e-3


@pytest.mark.parametrize(
    ("residual", "bias", "sentence"),
    [((2, 9), (8,), "one shape and dtype"), ((2, 8), (9,), r"must have the shape \(8,\)")],
)
def test_what_does_not_fit_is_told(residual, bias, sentence, device):
    """One sentence says what was wrong and what fits."""
    x, weight = torch.zeros(2, 8, device=device), torch.zeros(8, device=device)
    with pytest.raises(ValueError, match=sentence):
        add_layer_norm(
            x, torch.zeros(residual, device=device), weight, torch.zeros(bias, device=device)
        )
