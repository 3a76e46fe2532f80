"""RMSNorm in one launch, with the residual addition before it where there is one.

    total = x + residual
    y     = total / sqrt(mean(total ** 2) + eps) * weight

`add_rms_norm(x, residual, weight, eps)` returns `(y, total)`: the pre-norm decoder block needs
both. `rms_norm(x, weight, eps)` is the same kernel without a residual. The sum is rounded to the
dtype of `x` before the norm, and the normalised value before the product with `weight`, as
transformers' Llama does it, so that outputs differ from eager ones by the last bit at most.

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
    y_ptr,
    total_ptr,
    rows,
    width,
    x_stride,
    residual_stride,
    eps,
    HAS_RESIDUAL: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK_WIDTH)
    mask = (row < rows)[:, None] & (column < width)[None, :]
    # int64: row * stride passes 2**31 for long prefills.
    row = row.to(tl.int64)[:, None]
    at = column[None, :]
    # evict_first: no program reads these again, the weight is what should stay in L2.
    x = tl.load(x_ptr + row * x_stride + at, mask=mask, other=0.0, eviction_policy="evict_first")
    total = x.to(tl.float32)
    if HAS_RESIDUAL:
        residual = tl.load(
            residual_ptr + row * residual_stride + at,
            mask=mask,
            other=0.0,
            eviction_policy="evict_first",
        )
        rounded = (total + residual.to(tl.float32)).to(x_ptr.dtype.element_ty)
        tl.store(total_ptr + row * width + at, rounded, mask=mask)
        total = rounded.to(tl.float32)
    variance = tl.sum(total * total, axis=1) / width
    normed = (total * tl.rsqrt(variance + eps)[:, None]).to(x_ptr.dtype.element_ty)
    weight = tl.load(weight_ptr + column, mask=column < width, other=0.0).to(tl.float32)
    y = normed.to(tl.float32) * weight[None, :]
    tl.store(y_ptr + row * width + at, y.to(y_ptr.dtype.element_ty), mask=mask)


def _launch(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    y: torch.Tensor,
    total: torch.Tensor,
    eps: float,
) -> None:
    width = x.shape[-1]
    if not x.numel():
        return
    x = _rows(x)
    residual = x if residual is None else _rows(residual)
    block_rows, block_width, num_warps = _tile(x.shape[0], width)
    _kernel[(triton.cdiv(x.shape[0], block_rows),)](
        x,
        residual,
        weight.contiguous(),
        y,
        total,
        x.shape[0],
        width,
        x.stride(0),
        residual.stride(0),
        eps,
        HAS_RESIDUAL=residual is not x,
        BLOCK_ROWS=block_rows,
        BLOCK_WIDTH=block_width,
        num_warps=num_warps,
    )


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
    "warpspan::add_rms_norm",
    mutates_args=(),
    schema="(Tensor x, Tensor residual, Tensor weight, float eps) -> (Tensor, Tensor)",
)
def _add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    total = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _launch(x, residual, weight, y, total, eps)
    return y, total


@_add_rms_norm.register_fake
def _(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


@torch.library.custom_op(
    "warpspan::rms_norm",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, float eps) -> Tensor",
)
def _rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _launch(x, None, weight, y, y, eps)
    return y


@_rms_norm.register_fake
def _(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x.new_empty(x.shape)


def _check(x: torch.Tensor, residual: torch.Tensor | None, weight: torch.Tensor) -> None:
    if residual is not None and (x.shape != residual.shape or x.dtype != residual.dtype):
        raise ValueError(
            f"add_rms_norm needs x and residual of one shape and dtype, not {tuple(x.shape)} "
            f"{x.dtype} and {tuple(residual.shape)} {residual.dtype}."
        )
    if weight.shape != x.shape[-1:]:
        raise ValueError(
            f"weight must have the shape ({x.shape[-1]},) of x's last dimension, "
            f"not {tuple(weight.shape)}."
        )
    if x.shape[-1] > MAX_WIDTH:
        raise ValueError(f"rms_norm holds a row in registers: at most {MAX_WIDTH} columns.")
    if torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, residual, weight)
    ):
        raise RuntimeError(
            "rms_norm is for inference and has no gradient: "
            "call it under torch.no_grad() or torch.inference_mode()."
        )


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    """`x + residual` and its RMSNorm in one launch.

    Args:
        x: (..., width), at most 32768 columns; rows may be strided.
        residual: as `x`.
        weight: (width,).
        eps: added to the mean square.

    Returns:
        (norm, sum), each of the shape and dtype of `x`, contiguous.

    Raises:
        ValueError: shapes or dtypes do not fit.
        RuntimeError: a gradient would be needed.
    """
    _check(x, residual, weight)
    return _add_rms_norm(x, residual, weight, eps)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """RMSNorm of `x` (..., width) in one launch; see `add_rms_norm`."""
    _check(x, None, weight)
    return _rms_norm(x, weight, eps)


def reference(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in plain torch, as transformers' Llama does it; exact for float64 arguments."""
    total = x + residual
    wide = total.to(torch.promote_types(x.dtype, torch.float32))
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * normed.to(x.dtype), total


def cost(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6
) -> tuple[int, int]:
    """Minimum bytes moved and floating-point operations.

    Bytes: x and residual read once, norm and sum written once, the weight read once.
    FLOPs: an addition, a square and its accumulation, two products: 5 an element.
    """
    return (4 * x.numel() + weight.numel()) * x.element_size(), 5 * x.numel()
