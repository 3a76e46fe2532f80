"""Rotary position embedding of queries and keys in one launch (half-rotation, as Llama's).

    out = x * cos + rotate_half(x) * sin      rotate_half((a, b)) = (-b, a)

Eager code needs about ten launches for this and rounds three times; here one program takes one
token, reads its row of cos and sin once for all heads of q and k, and rounds once.

Inference only. Needs torch and triton, nothing else: this file can be used alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _rotate(
    x_ptr,
    y_ptr,
    x_head,
    y_head,
    heads,
    half,
    cos_low,
    cos_high,
    sin_low,
    sin_high,
    BLOCK_HEADS: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
):
    at = tl.arange(0, BLOCK_HALF)[None, :]
    for first in range(0, heads, BLOCK_HEADS):
        head = first + tl.arange(0, BLOCK_HEADS)[:, None]
        mask = (head < heads) & (at < half)
        head = head.to(tl.int64)
        low = tl.load(x_ptr + head * x_head + at, mask=mask, other=0.0)
        high = tl.load(x_ptr + head * x_head + at + half, mask=mask, other=0.0)
        low = low.to(tl.float32)
        high = high.to(tl.float32)
        new_low = low * cos_low - high * sin_low
        new_high = high * cos_high + low * sin_high
        y = y_ptr + head * y_head + at
        tl.store(y, new_low.to(y_ptr.dtype.element_ty), mask=mask)
        tl.store(y + half, new_high.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _kernel(
    q_ptr,
    k_ptr,
    cos_ptr,
    sin_ptr,
    q_out_ptr,
    k_out_ptr,
    tokens,
    q_heads,
    k_heads,
    half,
    q_batch,
    q_head,
    q_token,
    k_batch,
    k_head,
    k_token,
    q_out_batch,
    q_out_head,
    q_out_token,
    k_out_batch,
    k_out_head,
    k_out_token,
    cos_batch,
    cos_token,
    sin_batch,
    sin_token,
    BLOCK_Q_HEADS: tl.constexpr,
    BLOCK_K_HEADS: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
):
    batch = (tl.program_id(0) // tokens).to(tl.int64)
    token = (tl.program_id(0) % tokens).to(tl.int64)
    at = tl.arange(0, BLOCK_HALF)[None, :]
    inside = at < half
    cos = cos_ptr + batch * cos_batch + token * cos_token + at
    sin = sin_ptr + batch * sin_batch + token * sin_token + at
    # Both halves are read, though they are equal in most models: then it is eager's formula.
    cos_low = tl.load(cos, mask=inside, other=0.0).to(tl.float32)
    cos_high = tl.load(cos + half, mask=inside, other=0.0).to(tl.float32)
    sin_low = tl.load(sin, mask=inside, other=0.0).to(tl.float32)
    sin_high = tl.load(sin + half, mask=inside, other=0.0).to(tl.float32)
    _rotate(
        q_ptr + batch * q_batch + token * q_token,
        q_out_ptr + batch * q_out_batch + token * q_out_token,
        q_head,
        q_out_head,
        q_heads,
        half,
        cos_low,
        cos_high,
        sin_low,
        sin_high,
        BLOCK_Q_HEADS,
        BLOCK_HALF,
    )
    _rotate(
        k_ptr + batch * k_batch + token * k_token,
        k_out_ptr + batch * k_out_batch + token * k_out_token,
        k_head,
        k_out_head,
        k_heads,
        half,
        cos_low,
        cos_high,
        sin_low,
        sin_high,
        BLOCK_K_HEADS,
        BLOCK_HALF,
    )


def _columns(x: torch.Tensor) -> torch.Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


@torch.library.custom_op(
    "warpspan::rope",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor cos, Tensor sin) -> (Tensor, Tensor)",
)
def _rope(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    # empty_like keeps the strides: what was a transposed view of (batch, tokens, heads, width)
    # stays one, and the attention kernel after it sees the layout that it saw before.
    q_out, k_out = torch.empty_like(q), torch.empty_like(k)
    batch, q_heads, tokens, width = q.shape
    if not (batch and tokens):
        return q_out, k_out
    q, k, cos, sin = _columns(q), _columns(k), _columns(cos), _columns(sin)
    block_half = max(16, triton.next_power_of_2(width // 2))
    # 64 x 32 values of each half are 32 registers a thread at 4 warps.
    most = max(1, 2048 // block_half)
    _kernel[(batch * tokens,)](
        q,
        k,
        cos,
        sin,
        q_out,
        k_out,
        tokens,
        q_heads,
        k.shape[1],
        width // 2,
        *q.stride()[:3],
        *k.stride()[:3],
        *q_out.stride()[:3],
        *k_out.stride()[:3],
        cos.stride(0) if cos.shape[0] > 1 else 0,
        cos.stride(1),
        sin.stride(0) if sin.shape[0] > 1 else 0,
        sin.stride(1),
        BLOCK_Q_HEADS=min(most, triton.next_power_of_2(q_heads)),
        BLOCK_K_HEADS=min(most, triton.next_power_of_2(k.shape[1])),
        BLOCK_HALF=block_half,
        num_warps=4,
    )
    return q_out, k_out


@_rope.register_fake
def _(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(q), torch.empty_like(k)


def rope(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys turned to their positions, in one launch.

    Args:
        q: (batch, query heads, tokens, width), of any strides.
        k: (batch, key heads, tokens, width), of any strides.
        cos: (batch or 1, tokens, width).
        sin: as `cos`.

    Returns:
        (q, k) turned, with the shapes, dtypes and (where dense) strides of the inputs.

    Raises:
        ValueError: shapes do not fit, or only a part of the width is rotated.
        RuntimeError: a gradient would be needed.
    """
    batch, _, tokens, width = q.shape
    if (k.shape[0], k.shape[2], k.shape[3]) != (batch, tokens, width) or q.dtype != k.dtype:
        raise ValueError(
            "rope needs q and k of one dtype that differ in the number of heads only, not "
            f"{tuple(q.shape)} {q.dtype} and {tuple(k.shape)} {k.dtype}."
        )
    fits = ((batch, tokens, width), (1, tokens, width))
    if tuple(cos.shape) not in fits or tuple(sin.shape) not in fits:
        raise ValueError(
            f"cos and sin must have the shape {fits[0]} or {fits[1]}, "
            f"not {tuple(cos.shape)} and {tuple(sin.shape)}."
        )
    if width % 2:
        raise ValueError(f"rope rotates two halves: the width must be even, not {width}.")
    if torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, cos, sin)):
        raise RuntimeError(
            "rope is for inference and has no gradient: "
            "call it under torch.no_grad() or torch.inference_mode()."
        )
    return _rope(q, k, cos, sin)


def reference(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in plain torch, as transformers does it; exact for float64 arguments."""
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)

    def turned(x: torch.Tensor) -> torch.Tensor:
        low, high = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-high, low), dim=-1) * sin

    return turned(q), turned(k)


def cost(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[int, int]:
    """Minimum bytes moved and floating-point operations.

    Bytes: q and k read and written once, cos and sin read once.
    FLOPs: two products and an addition: 3 an element of q and k.
    """
    turned = q.numel() + k.numel()
    tables = cos.numel() * cos.element_size() + sin.numel() * sin.element_size()
    return 2 * turned * q.element_size() + tables, 3 * turned
