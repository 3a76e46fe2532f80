"""A Llama-like decoder block from the fused kernels beside it: the end-to-end proof of them.

    h = x + o_proj(attention(rope(qkv_proj(rms_norm(x))), cache))
    y = h + down_proj(swiglu(gate_up_proj(rms_norm(h))))

Matrix products stay with torch (cuBLAS); what lies between them is fused: two norms, one with its
residual, RoPE of q and k, attention of the decode step over the KV cache, SwiGLU. A prefill of
several tokens takes torch's `scaled_dot_product_attention`. Gains of single kernels shrink here to
the part that they had in the block.

Inference only. Needs torch, triton, and the files add_rms_norm, decode_attention, rope and swiglu
beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from .add_rms_norm import add_rms_norm, rms_norm
from .decode_attention import decode_attention
from .decode_attention import reference as decode_reference
from .rope import reference as rope_reference
from .rope import rope
from .swiglu import swiglu


class Weights(NamedTuple):
    """Parameters of one block; linear weights are (outputs, inputs), as in `torch.nn.Linear`.

    qkv is (heads * width + 2 * key heads * width, hidden), gate_up (2 * intermediate, hidden).
    """

    input_norm: torch.Tensor
    qkv: torch.Tensor
    out: torch.Tensor
    output_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


class Cache(NamedTuple):
    """Keys and values (batch, key heads, capacity, width), and the tokens that they hold.

    `lengths` (batch,) int64 counts tokens before this call; the call writes its own behind them.
    """

    keys: torch.Tensor
    values: torch.Tensor
    lengths: torch.Tensor


def _store(cache: Cache, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Write the new keys and values (batch, key heads, tokens, width); the new lengths."""
    tokens = k.shape[2]
    at = cache.lengths[:, None] + torch.arange(tokens, device=k.device)
    sequence = torch.arange(k.shape[0], device=k.device)[:, None]
    # Advanced indices around a slice put (batch, tokens) first.
    cache.keys[sequence, :, at] = k.transpose(1, 2)
    cache.values[sequence, :, at] = v.transpose(1, 2)
    return cache.lengths + tokens


def _split_heads(qkv: torch.Tensor, key_heads: int, width: int) -> tuple[torch.Tensor, ...]:
    """q, k and v (batch, heads, tokens, width) as views of the packed projection."""
    heads = qkv.unflatten(-1, (-1, width)).transpose(1, 2)
    return heads.split((heads.shape[1] - 2 * key_heads, key_heads, key_heads), dim=1)


def decoder_block(
    x: torch.Tensor,
    weights: Weights,
    cache: Cache,
    cos: torch.Tensor,
    sin: torch.Tensor,
    eps: float = 1e-6,
) -> torch.Tensor:
    """One block: a decode step (one token) or the prefill of an empty cache (several).

    Args:
        x: (batch, tokens, hidden).
        weights: of the block.
        cache: written in place behind `cache.lengths`; for several tokens it must be empty. Fewer
            key heads than heads need torch 2.5 for several tokens.
        cos: (batch or 1, tokens, width) of the new positions.
        sin: as `cos`.
        eps: of both norms.

    Returns:
        (batch, tokens, hidden).

    Raises:
        RuntimeError: a gradient would be needed.
    """
    key_heads, width = cache.keys.shape[1], cache.keys.shape[3]
    qkv = linear(rms_norm(x, weights.input_norm, eps), weights.qkv)
    q, k, v = _split_heads(qkv, key_heads, width)
    q, k = rope(q, k, cos, sin)
    lengths = _store(cache, k, v)
    if x.shape[1] == 1:
        mixed = decode_attention(q[:, :, 0], cache.keys, cache.values, lengths).flatten(1)[:, None]
    else:
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        mixed = mixed.transpose(1, 2).flatten(2)
    normed, total = add_rms_norm(linear(mixed, weights.out), x, weights.output_norm, eps)
    gate, up = linear(normed, weights.gate_up).chunk(2, dim=-1)
    return total + linear(swiglu(gate, up), weights.down)


def _norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def reference(
    x: torch.Tensor,
    weights: Weights,
    cache: Cache,
    cos: torch.Tensor,
    sin: torch.Tensor,
    eps: float = 1e-6,
) -> torch.Tensor:
    """The same in plain torch, as transformers' Llama does it; exact for float64 arguments."""
    key_heads, width = cache.keys.shape[1], cache.keys.shape[3]
    qkv = linear(_norm(x, weights.input_norm, eps), weights.qkv)
    q, k, v = _split_heads(qkv, key_heads, width)
    q, k = rope_reference(q, k, cos, sin)
    lengths = _store(cache, k, v)
    if x.shape[1] == 1:
        mixed = decode_reference(q[:, :, 0], cache.keys, cache.values, lengths).flatten(1)[:, None]
    else:
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        mixed = mixed.transpose(1, 2).flatten(2)
    total = x + linear(mixed, weights.out)
    gate, up = linear(_norm(total, weights.output_norm, eps), weights.gate_up).chunk(2, dim=-1)
    return total + linear(torch.nn.functional.silu(gate) * up, weights.down)


def cost(
    x: torch.Tensor,
    weights: Weights,
    cache: Cache,
    cos: torch.Tensor,
    sin: torch.Tensor,
    eps: float = 1e-6,
) -> tuple[int, int]:
    """Minimum bytes moved and floating-point operations.

    Bytes: every weight read once, x read and y written once, cos and sin read once, the keys and
    values of the cached tokens read once and those of the new tokens written once; all that lies
    between the products could stay on the chip.
    FLOPs: two for each weight of a product and token, four for each query head, pair of tokens
    that see each other, and element of the width; norms and activations are left out (below 1 %).
    """
    batch, tokens = x.shape[:2]
    key_heads, width = cache.keys.shape[1], cache.keys.shape[3]
    products = sum(w.numel() for w in (weights.qkv, weights.out, weights.gate_up, weights.down))
    cached = int(cache.lengths.sum())
    elements = products + weights.input_norm.numel() + weights.output_norm.numel()
    elements += 2 * x.numel() + cos.numel() + sin.numel()
    elements += 2 * (cached + batch * tokens) * key_heads * width
    heads = weights.out.shape[1] // width
    pairs = cached * tokens + batch * tokens * (tokens + 1) // 2
    flops = 2 * products * batch * tokens + 4 * heads * width * pairs
    return elements * x.element_size() + cache.lengths.numel() * 8, flops
