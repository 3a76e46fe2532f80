"""Residual addition and LayerNorm in one launch: `y = layer_norm(x + residual) * weight + bias`.

The post-norm form of BERT, where the sum itself is needed nowhere else and is not written. It is
rounded to the dtype of `x` before the norm, as eager does. Mean and variance are taken in two
passes over registers, as a one-pass variance cancels for rows with a large mean.

Inference only. Needs torch and triton, nothing else: this file can be used alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

# One program holds a whole row in registers. Compiled for sm_90, 32768 columns at 1024 threads fit
# in their 64 registers each, 65536 spill 300 bytes a thread.
MAX_WIDTH = 32768


@triton.jit
def _kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    rows,
    width,
    x_stride,
    residual_stride,
    eps,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK_WIDTH)
    inside = (column < width)[None, :]
    mask = (row < rows)[:, None] & inside
    # int64: row * stride passes 2**31 for long prefills.
    row = row.to(tl.int64)[:, None]
    at = column[None, :]
    # evict_first: no program reads these again, weight and bias are what should stay in L2.
    x = tl.load(x_ptr + row * x_stride + at, mask=mask, other=0.0, eviction_policy="evict_first")
    residual = tl.load(
        residual_ptr + row * residual_stride + at,
        mask=mask,
        other=0.0,
        eviction_policy="evict_first",
    )
    total = (x.to(tl.float32) + residual.to(tl.float32)).to(x_ptr.dtype.element_ty)
    total = total.to(tl.float32)
    centred = total - (tl.sum(total, axis=1) / width)[:, None]
    squares = tl.where(inside, centred * centred, 0.0)
    scale = tl.rsqrt(tl.sum(squares, axis=1) / width + eps)
    weight = tl.load(weight_ptr + column, mask=column < width, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + column, mask=column < width, other=0.0).to(tl.float32)
    y = centred * scale[:, None] * weight[None, :] + bias[None, :]
    tl.store(y_ptr + row * width + at, y.to(y_ptr.dtype.element_ty), mask=mask)


def _rows(x: torch.Tensor) -> torch.Tensor:
    """`x` as (rows, width) with adjacent columns; a copy only where the strides force one."""
    x = x.reshape(-1, x.shape[-1])
    return x if x.stride(-1) == 1 else x.contiguous()


def _tile(rows: int, width: int) -> tuple[int, int, int]:
    """Rows and columns of a program, and its warps.

    Short rows share a program, once there are enough programs to fill the device without that.
    """
    block_width = max(16, triton.next_power_of_2(width))
    block_rows = max(1, min(2048 // block_width, triton.next_power_of_2(rows) // 1024))
    elements = block_rows * block_width
    return block_rows, block_width, min(32, max(4, elements // 512 if elements > 2048 else 4))


@torch.library.custom_op(
    "warpspan::add_layer_norm",
    mutates_args=(),
    schema="(Tensor x, Tensor residual, Tensor weight, Tensor bias, float eps) -> Tensor",
)
def _add_layer_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not x.numel():
        return y
    width = x.shape[-1]
    x, residual = _rows(x), _rows(residual)
    block_rows, block_width, num_warps = _tile(x.shape[0], width)
    _kernel[(triton.cdiv(x.shape[0], block_rows),)](
        x,
        residual,
        weight.contiguous(),
        bias.contiguous(),
        y,
        x.shape[0],
        width,
        x.stride(0),
        residual.stride(0),
        eps,
        BLOCK_ROWS=block_rows,
        BLOCK_WIDTH=block_width,
        num_warps=num_warps,
    )
    return y


@_add_layer_norm.register_fake
def _(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    return x.new_empty(x.shape)


def add_layer_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float = 1e-5,
) -> torch.Tensor:
    """LayerNorm of `x + residual` in one launch.

    Args:
        x: (..., width), at most 32768 columns; rows may be strided.
        residual: as `x`.
        weight: (width,).
        bias: (width,).
        eps: added to the variance.

    Returns:
        The norm, of the shape and dtype of `x`, contiguous.

    Raises:
        ValueError: shapes or dtypes do not fit.
        RuntimeError: a gradient would be needed.
    """
    if x.shape != residual.shape or x.dtype != residual.dtype:
        raise ValueError(
            f"add_layer_norm needs x and residual of one shape and dtype, not {tuple(x.shape)} "
            f"{x.dtype} and {tuple(residual.shape)} {residual.dtype}."
        )
    if weight.shape != x.shape[-1:] or bias.shape != x.shape[-1:]:
        raise ValueError(
            f"weight and bias must have the shape ({x.shape[-1]},) of x's last dimension, "
            f"not {tuple(weight.shape)} and {tuple(bias.shape)}."
        )
    if x.shape[-1] > MAX_WIDTH:
        raise ValueError(f"add_layer_norm holds a row in registers: at most {MAX_WIDTH} columns.")
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, residual, weight, bias)):
        raise RuntimeError(
            "add_layer_norm is for inference and has no gradient: "
            "call it under torch.no_grad() or torch.inference_mode()."
        )
    return _add_layer_norm(x, residual, weight, bias, eps)


def reference(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float = 1e-5,
) -> torch.Tensor:
    """The same in plain torch, as transformers' BERT does it; exact for float64 arguments."""
    return torch.nn.functional.layer_norm(x + residual, weight.shape, weight, bias, eps)


def cost(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float = 1e-5,
) -> tuple[int, int]:
    """Minimum bytes moved and floating-point operations.

    Bytes: x and residual read once, the norm written once, weight and bias read once.
    FLOPs: an addition, the mean, the centring, a square and its accumulation, two products and
    an addition: 8 an element.
    """
    return (3 * x.numel() + 2 * weight.numel()) * x.element_size(), 8 * x.numel()
