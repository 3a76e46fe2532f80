"""Bias and GELU: the tail where the tanh form cancels, and what is refused."""

import pytest
import torch

from warpspan.kernels.bias_gelu import bias_gelu, reference


def test_the_tanh_form_does_not_cancel_in_the_tail(device):
    """At -5 eager's 1 + tanh has lost all but a few bits in float32; ours keeps them."""
    x, zero = torch.linspace(-6, -4, 64, device=device)[None], torch.zeros(64, device=device)
    exact = reference(x.double(), zero.double(), "tanh")
    ours = ((bias_gelu(x, zero, "tanh") - exact) / exact).abs().max()
    eager = ((reference(x, zero, "tanh") - exact) / exact).abs().max()
    assert float(ours) < 1e-4 < float(eager)


@pytest.mark.parametrize(
    ("bias", "approximate", "sentence"),
    [((9,), "none", r"must have the shape \(8,\)"), ((8,), "erf", "'none' or 'tanh', not 'erf'")],
)
def test_what_does_not_fit_is_told(bias, approximate, sentence, device):
    """One sentence says what was wrong and what fits."""
    with pytest.raises(ValueError, match=sentence):
        bias_gelu(torch.zeros(2, 8, device=device), torch.zeros(bias, device=device), approximate)
