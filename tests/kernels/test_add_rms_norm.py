"""RMSNorm without a residual, and what its launcher refuses."""

import pytest
import torch

from warpspan.kernels.add_rms_norm import add_rms_norm, reference, rms_norm


def test_without_a_residual_it_is_the_norm_of_its_input(device, generator):
    """`rms_norm(x)` is `add_rms_norm(x, 0)` without the sum."""
    x = torch.randn(2, 3, 65, generator=generator, device=device)
    weight = torch.randn(65, generator=generator, device=device)
    norm, total = add_rms_norm(x, torch.zeros_like(x), weight)
    assert torch.equal(norm, rms_norm(x, weight))
    assert torch.equal(x, total)


def test_x_may_be_its_own_residual(device, generator):
    """The same tensor twice is a residual like any other."""
    x = torch.randn(3, 17, generator=generator, device=device)
    weight = torch.ones(17, device=device)
    (norm, total), (expected, doubled) = add_rms_norm(x, x, weight), reference(x, x, weight)
    assert torch.allclose(expected, norm, atol=1e-6)
    assert torch.equal(doubled, total)


@pytest.mark.parametrize(
    ("x", "residual", "weight", "sentence"),
    [
        ((2, 8), (2, 9), (8,), "one shape and dtype"),
        ((2, 8), (2, 8), (9,), r"must have the shape \(8,\)"),
        ((1, 32769), (1, 32769), (32769,), "at most 32768 columns"),
    ],
)
def test_what_does_not_fit_is_told(x, residual, weight, sentence, device):
    """One sentence says what was wrong and what fits."""
    with pytest.raises(ValueError, match=sentence):
        add_rms_norm(*(torch.zeros(shape, device=device) for shape in (x, residual, weight)))
