"""Bias addition and GELU in one launch: `gelu(x + bias)`, exact (erf) or by tanh.

The sum is rounded to the dtype of `x`, as eager does. The tanh form is computed as
`x * sigmoid(2u)`, which equals `x / 2 * (1 + tanh(u))` and does not cancel for negative x.

Inference only. Needs torch and triton, nothing else: this file can be used alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _kernel(
    x_ptr,
    bias_ptr,
    y_ptr,
    width,
    x_stride,
    TANH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    blocks = tl.cdiv(width, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    column = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    mask = column < width
    x = tl.load(x_ptr + row * x_stride + column, mask=mask, eviction_policy="evict_first")
    bias = tl.load(bias_ptr + column, mask=mask)
    total = (x.to(tl.float32) + bias.to(tl.float32)).to(x_ptr.dtype.element_ty).to(tl.float32)
    if TANH:
        u = 0.7978845608028654 * (total + 0.044715 * total * total * total)
        y = total * tl.sigmoid(2.0 * u)
    else:
        y = 0.5 * total * (1.0 + tl.erf(0.7071067811865476 * total))
    tl.store(y_ptr + row * width + column, y.to(y_ptr.dtype.element_ty), mask=mask)


@torch.library.custom_op(
    "warpspan::bias_gelu",
    mutates_args=(),
    schema="(Tensor x, Tensor bias, str approximate) -> Tensor",
)
def _bias_gelu(x: torch.Tensor, bias: torch.Tensor, approximate: str) -> torch.Tensor:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not x.numel():
        return y
    x = x.reshape(-1, x.shape[-1])
    if x.stride(-1) != 1:
        x = x.contiguous()
    rows, width = x.shape
    # 128 threads with 16 values each, as two 16-byte vectors of 16-bit values.
    block = min(2048, max(128, triton.next_power_of_2(width)))
    _kernel[(rows * triton.cdiv(width, block),)](
        x,
        bias.contiguous(),
        y,
        width,
        x.stride(0),
        TANH=approximate == "tanh",
        BLOCK=block,
        num_warps=4,
    )
    return y


@_bias_gelu.register_fake
def _(x: torch.Tensor, bias: torch.Tensor, approximate: str) -> torch.Tensor:
    return x.new_empty(x.shape)


def bias_gelu(x: torch.Tensor, bias: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    """GELU of `x + bias` in one launch.

    Args:
        x: (..., width); rows may be strided.
        bias: (width,).
        approximate: `none` (erf) or `tanh`, as in `torch.nn.functional.gelu`.

    Returns:
        The activation, of the shape and dtype of `x`, contiguous.

    Raises:
        ValueError: shapes do not fit, or `approximate` is neither.
        RuntimeError: a gradient would be needed.
    """
    if bias.shape != x.shape[-1:]:
        raise ValueError(
            f"bias must have the shape ({x.shape[-1]},) of x's last dimension, "
            f"not {tuple(bias.shape)}."
        )
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', not {approximate!r}.")
    if torch.is_grad_enabled() and (x.requires_grad or bias.requires_grad):
        raise RuntimeError(
            "bias_gelu is for inference and has no gradient: "
            "call it under torch.no_grad() or torch.inference_mode()."
        )
    return _bias_gelu(x, bias, approximate)


def reference(x: torch.Tensor, bias: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    """The same in plain torch; exact for float64 arguments."""
    return torch.nn.functional.gelu(x + bias, approximate=approximate)


def cost(x: torch.Tensor, bias: torch.Tensor, approximate: str = "none") -> tuple[int, int]:
    """Minimum bytes moved and floating-point operations.

    Bytes: x read and written once, the bias read once.
    FLOPs: the addition, then erf form: 2 products, erf, addition, product (6 an element); tanh
    form: 5 for the cubic, 4 for the sigmoid, 1 product (11 an element).
    """
    per_element = 11 if approximate == "tanh" else 6
    return (2 * x.numel() + bias.numel()) * x.element_size(), per_element * x.numel()
