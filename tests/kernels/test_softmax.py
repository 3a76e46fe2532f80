"""Softmax over rows too wide for registers, which take the online kernel."""

import pytest
import torch

from warpspan.kernels.softmax import MAX_IN_REGISTERS, softmax

INF = float("inf")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of the NaN that this is about
@pytest.mark.parametrize(
    ("value", "at"),
    [(float("nan"), 0), (float("nan"), 8191), (float("nan"), -1), (INF, 20000), (-INF, 3)],
)
def test_a_wide_row_keeps_nan_and_infinity_where_eager_has_them(value, at, device, generator):
    """A NaN reaches the whole row from any block, also from the first one; -inf becomes 0."""
    x = torch.randn(2, MAX_IN_REGISTERS + 9, generator=generator, device=device)
    x[0, at] = value
    x[1, : MAX_IN_REGISTERS // 2] = -INF  # whole blocks of nothing before the first value
    expected, out = torch.softmax(x, dim=-1), softmax(x)
    assert torch.allclose(expected, out, rtol=1e-5, atol=1e-9, equal_nan=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_wide_row_of_minus_infinity_is_nan(device):
    """As in eager: a distribution over nothing."""
    x = torch.full((1, MAX_IN_REGISTERS + 1), -INF, device=device)
    assert bool(softmax(x).isnan().all())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_nan_before_the_first_value_is_not_forgotten(device):
    """The running sum is NaN while the running maximum is still -inf."""
    x = torch.full((1, MAX_IN_REGISTERS + 1), -INF, device=device)
    x[0, 5] = float("nan")
    x[0, 8192 + 5] = 1.0
    assert bool(softmax(x).isnan().all())
