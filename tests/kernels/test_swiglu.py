"""SwiGLU of a packed projection, and what its launcher refuses."""

import pytest
import torch

from warpspan.kernels.swiglu import BLOCK, reference, swiglu


@pytest.mark.parametrize("width", [BLOCK, BLOCK + 1])
def test_halves_of_a_packed_projection_are_not_copied_wrong(width, device, generator):
    """Rows with a stride, longer than a block: each half gives what a contiguous one gives."""
    packed = torch.randn(3, 2 * width, generator=generator, device=device)
    gate, up = packed.chunk(2, dim=-1)
    assert torch.equal(swiglu(gate.contiguous(), up.contiguous()), swiglu(gate, up))
    assert torch.allclose(reference(gate, up), swiglu(gate, up), atol=1e-6)


def test_only_one_half_may_be_strided(device, generator):
    """A contiguous gate with a strided up, and three dimensions."""
    gate = torch.randn(2, 2, 9, generator=generator, device=device)
    up = torch.randn(2, 2, 18, generator=generator, device=device)[..., ::2]
    assert torch.allclose(reference(gate, up), swiglu(gate, up), atol=1e-6)


def test_what_does_not_fit_is_told(device):
    """One sentence says what was wrong."""
    with pytest.raises(ValueError, match="one shape and dtype"):
        swiglu(torch.zeros(2, 8, device=device), torch.zeros(2, 9, device=device))
