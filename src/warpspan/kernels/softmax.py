"""Softmax over the last dimension in one launch: in registers, or online for wide rows.

A row of up to 32768 columns is read once and stays in registers. A wider one is read twice: the
first sweep keeps a running maximum and a running sum (Milakov and Gimelshein, 2018,
arXiv:1805.02867), the second writes; a row that fits in L2 costs its bytes from memory once.

Inference only. Needs torch and triton, nothing else: this file can be used alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

# 32768 columns are 32 values a thread at 1024 threads; twice that would leave no second row to
# overlap loads with on the same SM.
MAX_IN_REGISTERS = 32768
BLOCK_ONLINE = 8192


@triton.jit
def _in_registers(
    x_ptr,
    y_ptr,
    rows,
    width,
    x_stride,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK_WIDTH)
    mask = (row < rows)[:, None] & (column < width)[None, :]
    row = row.to(tl.int64)[:, None]
    at = column[None, :]
    x = tl.load(
        x_ptr + row * x_stride + at,
        mask=mask,
        other=-float("inf"),
        eviction_policy="evict_first",
    ).to(tl.float32)
    # A row of -inf becomes exp(nan): NaN as in eager, without a branch.
    power = tl.exp(x - tl.max(x, axis=1)[:, None])
    y = power / tl.sum(power, axis=1)[:, None]
    tl.store(y_ptr + row * width + at, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _online(x_ptr, y_ptr, width, x_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    # A running maximum and sum for each lane: the reduction across lanes waits for the end.
    most = tl.full((BLOCK,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, width, BLOCK):
        at = first + column
        x = tl.load(x_ptr + row * x_stride + at, mask=at < width, other=-float("inf"))
        x = x.to(tl.float32)
        # A NaN must reach the sum: `x > most` is false for it, so it is added as exp(NaN).
        new = tl.where(x > most, x, most)
        # -inf so far: nothing to rescale (the sum is 0 or NaN), and exp(-inf + inf) would be NaN.
        total = tl.where(most == -float("inf"), total, total * tl.exp(most - new))
        total += tl.where(x == -float("inf"), 0.0, tl.exp(x - new))
        most = new
    peak = tl.max(most, axis=0)
    total = tl.sum(tl.where(total == 0.0, 0.0, total * tl.exp(most - peak)), axis=0)
    for first in range(0, width, BLOCK):
        at = first + column
        x = tl.load(
            x_ptr + row * x_stride + at,
            mask=at < width,
            other=-float("inf"),
            eviction_policy="evict_first",
        )
        y = tl.exp(x.to(tl.float32) - peak) / total
        tl.store(y_ptr + row * width + at, y.to(y_ptr.dtype.element_ty), mask=at < width)


@torch.library.custom_op(
    "warpspan::softmax",
    mutates_args=(),
    schema="(Tensor x) -> Tensor",
)
def _softmax(x: torch.Tensor) -> torch.Tensor:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not x.numel():
        return y
    x = x.reshape(-1, x.shape[-1])
    if x.stride(-1) != 1:
        x = x.contiguous()
    rows, width = x.shape
    if width > MAX_IN_REGISTERS:
        _online[(rows,)](x, y, width, x.stride(0), BLOCK=BLOCK_ONLINE, num_warps=16)
        return y
    block_width = max(16, triton.next_power_of_2(width))
    # Short rows share a program, once there are enough programs to fill the device.
    block_rows = max(1, min(2048 // block_width, triton.next_power_of_2(rows) // 1024))
    elements = block_rows * block_width
    _in_registers[(triton.cdiv(rows, block_rows),)](
        x,
        y,
        rows,
        width,
        x.stride(0),
        BLOCK_ROWS=block_rows,
        BLOCK_WIDTH=block_width,
        num_warps=min(32, max(4, elements // 512 if elements > 2048 else 4)),
    )
    return y


@_softmax.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape)


def softmax(x: torch.Tensor) -> torch.Tensor:
    """Softmax over the last dimension in one launch.

    Args:
        x: (..., width), of any width; rows may be strided.

    Returns:
        The probabilities, of the shape and dtype of `x`, contiguous.

    Raises:
        RuntimeError: a gradient would be needed.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        raise RuntimeError(
            "softmax is for inference and has no gradient: "
            "call it under torch.no_grad() or torch.inference_mode()."
        )
    return _softmax(x)


def reference(x: torch.Tensor) -> torch.Tensor:
    """The same in plain torch operations; exact for float64 arguments."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    power = torch.exp(wide - wide.amax(-1, keepdim=True)) if x.numel() else wide
    return (power / power.sum(-1, keepdim=True)).to(x.dtype)


def cost(x: torch.Tensor) -> tuple[int, int]:
    """Minimum bytes moved and floating-point operations.

    Bytes: x read once and written once.
    FLOPs: maximum, subtraction, exponential, accumulation, division: 5 an element.
    """
    return 2 * x.numel() * x.element_size(), 5 * x.numel()
