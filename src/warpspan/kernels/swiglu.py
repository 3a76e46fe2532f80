"""SwiGLU's elementwise part in one launch: `silu(gate) * up`.

`gate` and `up` may be two halves of one packed projection (rows strided), so that one matrix
product can serve both. silu is rounded to the dtype of the input before the product, as eager
does.

Inference only. Needs torch and triton, nothing else: this file can be used alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

# Each of 128 threads takes two 16-byte vectors of 16-bit values from each input.
BLOCK = 2048


@triton.jit
def _kernel(
    gate_ptr,
    up_ptr,
    y_ptr,
    width,
    gate_stride,
    up_stride,
    BLOCK: tl.constexpr,
):
    # A row has cdiv(width, BLOCK) programs, one grid dimension holds them all: the second and
    # third are limited to 65535.
    blocks = tl.cdiv(width, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    column = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = column < width
    gate = tl.load(
        gate_ptr + row * gate_stride + column, mask=mask, eviction_policy="evict_first"
    ).to(tl.float32)
    up = tl.load(up_ptr + row * up_stride + column, mask=mask, eviction_policy="evict_first")
    silu = (gate * tl.sigmoid(gate)).to(gate_ptr.dtype.element_ty)
    y = silu.to(tl.float32) * up.to(tl.float32)
    tl.store(y_ptr + row * width + column, y.to(y_ptr.dtype.element_ty), mask=mask)


def _rows(x: torch.Tensor) -> torch.Tensor:
    """`x` as (rows, width) with adjacent columns; a copy only where the strides force one."""
    x = x.reshape(-1, x.shape[-1])
    return x if x.stride(-1) == 1 else x.contiguous()


@torch.library.custom_op(
    "warpspan::swiglu",
    mutates_args=(),
    schema="(Tensor gate, Tensor up) -> Tensor",
)
def _swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    y = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    if not gate.numel():
        return y
    if gate.is_contiguous() and up.is_contiguous():
        # One long row: no block is cut short by the end of a row.
        gate, up = gate.view(1, -1), up.view(1, -1)
    else:
        gate, up = _rows(gate), _rows(up)
    rows, width = gate.shape
    _kernel[(rows * triton.cdiv(width, BLOCK),)](
        gate,
        up,
        y,
        width,
        gate.stride(0),
        up.stride(0),
        BLOCK=BLOCK,
        num_warps=4,
    )
    return y


@_swiglu.register_fake
def _(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return gate.new_empty(gate.shape)


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """`silu(gate) * up` in one launch.

    Args:
        gate: (..., width); rows may be strided.
        up: as `gate`.

    Returns:
        The product, of the shape and dtype of `gate`, contiguous.

    Raises:
        ValueError: shapes or dtypes differ.
        RuntimeError: a gradient would be needed.
    """
    if gate.shape != up.shape or gate.dtype != up.dtype:
        raise ValueError(
            f"swiglu needs gate and up of one shape and dtype, not {tuple(gate.shape)} "
            f"{gate.dtype} and {tuple(up.shape)} {up.dtype}."
        )
    if torch.is_grad_enabled() and (gate.requires_grad or up.requires_grad):
        raise RuntimeError(
            "swiglu is for inference and has no gradient: "
            "call it under torch.no_grad() or torch.inference_mode()."
        )
    return _swiglu(gate, up)


def reference(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """The same in plain torch; exact for float64 arguments."""
    return torch.nn.functional.silu(gate) * up


def cost(gate: torch.Tensor, up: torch.Tensor) -> tuple[int, int]:
    """Minimum bytes moved and floating-point operations.

    Bytes: gate and up read once, the product written once.
    FLOPs: exponential, addition, division and two products: 5 an element.
    """
    return 3 * gate.numel() * gate.element_size(), 5 * gate.numel()
