"""One decode step of attention over a KV cache, contiguous or paged (flash-decoding).

Each sequence has one new query token; its keys and values are long. One program for each key head
would leave most of the device idle at small batches, so the tokens of a sequence are split over
several programs (Dao et al., "Flash-Decoding for long-context inference", 2023): each keeps an
online softmax over its part, for all query heads that share the key head, so that a key is read
once. A second launch joins the parts by their maxima and sums.

`decode_attention` takes a cache (batch, key heads, capacity, width), `paged_decode_attention`
pages (pages, page size, key heads, width) and a table of page numbers. How many tokens of each
sequence count is read on the device (`lengths`), so one CUDA graph serves growing sequences.
A sequence of length 0 gives NaN, as a softmax over nothing does.

Inference only. Needs torch and triton, nothing else: this file can be used alone.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl

# Keys and values of one iteration, 16 KB each: three stages of both, 96 KB, are what the smallest
# of current GPUs has as shared memory for a program.
BLOCK_BYTES = 16384
# Fewer tokens than this in a part cost more in joining than they gain.
MIN_TOKENS_PER_SPLIT = 256


@triton.jit
def _parts(
    q_ptr,
    k_ptr,
    v_ptr,
    table_ptr,
    lengths_ptr,
    parts_ptr,
    maxima_ptr,
    sums_ptr,
    key_heads,
    group,
    width,
    splits,
    page_size,
    q_batch,
    q_head,
    k_batch,
    k_head,
    k_token,
    v_batch,
    v_head,
    v_token,
    table_batch,
    scale,
    PAGED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_GROUP: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    split = tl.program_id(0) % splits
    pair = tl.program_id(0) // splits
    batch = (pair // key_heads).to(tl.int64)
    key_head = (pair % key_heads).to(tl.int64)
    length = tl.load(lengths_ptr + batch).to(tl.int32)
    # Parts are cut from the real length, not the capacity: all programs have the same to do.
    share = tl.cdiv(tl.cdiv(length, splits), BLOCK_TOKENS) * BLOCK_TOKENS
    begin = split * share
    end = tl.minimum(begin + share, length)

    member = tl.arange(0, BLOCK_GROUP)
    at = tl.arange(0, BLOCK_WIDTH)
    lane = tl.arange(0, BLOCK_TOKENS)
    head = key_head * group + member
    q_mask = (member < group)[:, None] & (at < width)[None, :]
    q = tl.load(
        q_ptr + batch * q_batch + head[:, None] * q_head + at[None, :], mask=q_mask, other=0.0
    )
    most = tl.full((BLOCK_GROUP,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK_GROUP,), tl.float32)
    mixed = tl.zeros((BLOCK_GROUP, BLOCK_WIDTH), tl.float32)
    for first in range(begin, end, BLOCK_TOKENS):
        token = first + lane
        inside = token < end
        if PAGED:
            page = tl.load(
                table_ptr + batch * table_batch + token // page_size, mask=inside, other=0
            ).to(tl.int64)
            within = (token % page_size).to(tl.int64)
            k_row = page * k_batch + within * k_token
            v_row = page * v_batch + within * v_token
        else:
            k_row = batch * k_batch + token.to(tl.int64) * k_token
            v_row = batch * v_batch + token.to(tl.int64) * v_token
        k = tl.load(
            k_ptr + key_head * k_head + k_row[None, :] + at[:, None],
            mask=inside[None, :] & (at < width)[:, None],
            other=0.0,
            eviction_policy="evict_first",
        )
        score = tl.dot(q, k, input_precision=PRECISION) * scale
        score = tl.where(inside[None, :], score, -float("inf"))
        new = tl.maximum(most, tl.max(score, axis=1))
        # -inf so far: nothing to rescale, and exp(-inf + inf) would be NaN.
        factor = tl.where(most == -float("inf"), 0.0, tl.exp(most - new))
        power = tl.where(score == -float("inf"), 0.0, tl.exp(score - new[:, None]))
        total = total * factor + tl.sum(power, axis=1)
        v = tl.load(
            v_ptr + key_head * v_head + v_row[:, None] + at[None, :],
            mask=inside[:, None] & (at < width)[None, :],
            other=0.0,
            eviction_policy="evict_first",
        )
        mixed = mixed * factor[:, None]
        mixed = tl.dot(power.to(v.dtype), v, mixed, input_precision=PRECISION)
        most = new
    part = (batch * key_heads * group + head) * splits + split
    tl.store(maxima_ptr + part, most, mask=member < group)
    tl.store(sums_ptr + part, total, mask=member < group)
    tl.store(parts_ptr + part[:, None] * width + at[None, :], mixed, mask=q_mask)


@triton.jit
def _join(
    parts_ptr,
    maxima_ptr,
    sums_ptr,
    out_ptr,
    width,
    splits,
    BLOCK_SPLITS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, BLOCK_SPLITS)
    at = tl.arange(0, BLOCK_WIDTH)
    inside = split < splits
    maxima = tl.load(maxima_ptr + row * splits + split, mask=inside, other=-float("inf"))
    sums = tl.load(sums_ptr + row * splits + split, mask=inside, other=0.0)
    # A part without tokens has the maximum -inf and weighs nothing.
    factor = tl.exp(maxima - tl.max(maxima, axis=0))
    parts = tl.load(
        parts_ptr + (row * splits + split)[:, None] * width + at[None, :],
        mask=inside[:, None] & (at < width)[None, :],
        other=0.0,
    )
    out = tl.sum(parts * factor[:, None], axis=0) / tl.sum(sums * factor, axis=0)
    tl.store(out_ptr + row * width + at, out.to(out_ptr.dtype.element_ty), mask=at < width)


@functools.cache
def _processors(device: torch.device) -> int:
    if device.type == "cpu":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def _splits(pairs: int, capacity: int, device: torch.device) -> int:
    """Parts of a sequence: two programs an SM, as long as a part is worth its joining."""
    wanted = triton.cdiv(2 * _processors(device), pairs)
    return max(1, min(wanted, triton.cdiv(capacity, MIN_TOKENS_PER_SPLIT), 128))


@torch.library.custom_op(
    "warpspan::decode_attention",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor? table, Tensor lengths, float scale, "
    "SymInt splits) -> Tensor",
)
def _decode_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    table: torch.Tensor | None,
    lengths: torch.Tensor,
    scale: float,
    splits: int,
) -> torch.Tensor:
    batch, heads, width = q.shape
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    if not out.numel():
        return out
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    token, head = (2, 1) if table is None else (1, 2)
    key_heads = k.shape[head]
    capacity = k.shape[2] if table is None else table.shape[1] * k.shape[1]
    splits = splits or _splits(batch * key_heads, capacity, q.device)
    block_width = max(16, triton.next_power_of_2(width))
    parts = torch.empty((batch, heads, splits, width), dtype=torch.float32, device=q.device)
    maxima = torch.empty((batch, heads, splits), dtype=torch.float32, device=q.device)
    sums = torch.empty((batch, heads, splits), dtype=torch.float32, device=q.device)
    _parts[(batch * key_heads * splits,)](
        q,
        k,
        v,
        lengths if table is None else table,
        lengths,
        parts,
        maxima,
        sums,
        key_heads,
        heads // key_heads,
        width,
        splits,
        k.shape[1],
        *q.stride()[:2],
        k.stride(0),
        k.stride(head),
        k.stride(token),
        v.stride(0),
        v.stride(head),
        v.stride(token),
        0 if table is None else table.stride(0),
        scale,
        PAGED=table is not None,
        PRECISION="ieee" if q.dtype == torch.float32 else "tf32",
        # tl.dot takes 16 rows at least; those beyond the group are padding.
        BLOCK_GROUP=max(16, triton.next_power_of_2(heads // key_heads)),
        BLOCK_TOKENS=max(16, min(64, BLOCK_BYTES // (block_width * k.element_size()))),
        BLOCK_WIDTH=block_width,
        num_warps=4,
        num_stages=3,
    )
    _join[(batch * heads,)](
        parts,
        maxima,
        sums,
        out,
        width,
        splits,
        BLOCK_SPLITS=triton.next_power_of_2(splits),
        BLOCK_WIDTH=block_width,
        num_warps=4,
    )
    return out


@_decode_attention.register_fake
def _(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    table: torch.Tensor | None,
    lengths: torch.Tensor,
    scale: float,
    splits: int,
) -> torch.Tensor:
    return q.new_empty(q.shape)


def _check(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_heads: int, lengths: torch.Tensor
) -> None:
    if q.dim() != 3 or k.dim() != 4 or k.shape != v.shape:
        raise ValueError(
            "decode attention needs q (batch, heads, width) and keys and values of one shape with "
            f"four dimensions, not {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}."
        )
    if q.shape[-1] != k.shape[-1] or not q.dtype == k.dtype == v.dtype:
        raise ValueError("q, keys and values must have one width and one dtype.")
    if q.shape[1] % key_heads:
        raise ValueError(f"{q.shape[1]} query heads can't share {key_heads} key heads evenly.")
    if lengths.shape != q.shape[:1] or lengths.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"lengths must be {q.shape[0]} int32 or int64 values, one a sequence.")
    if torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v)):
        raise RuntimeError(
            "decode_attention is for inference and has no gradient: "
            "call it under torch.no_grad() or torch.inference_mode()."
        )


def decode_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor,
    scale: float | None = None,
    *,
    splits: int = 0,
) -> torch.Tensor:
    """Attention of one query token a sequence over a contiguous KV cache.

    Args:
        q: (batch, heads, width).
        k_cache: (batch, key heads, capacity, width), of any strides; heads is a multiple of
            key heads.
        v_cache: as `k_cache`.
        lengths: (batch,) int32 or int64: tokens in the cache that count, at most the capacity
            (not checked: it is on the device).
        scale: of the scores; `width ** -0.5` by default.
        splits: parts of a sequence; 0 chooses by the number of SMs.

    Returns:
        (batch, heads, width) in the dtype of `q`.

    Raises:
        ValueError: shapes or dtypes do not fit.
        RuntimeError: a gradient would be needed.
    """
    _check(q, k_cache, v_cache, k_cache.shape[1], lengths)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _decode_attention(q, k_cache, v_cache, None, lengths, scale, splits)


def paged_decode_attention(
    q: torch.Tensor,
    k_pages: torch.Tensor,
    v_pages: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    scale: float | None = None,
    *,
    splits: int = 0,
) -> torch.Tensor:
    """Attention of one query token a sequence over a paged KV cache.

    Args:
        q: (batch, heads, width).
        k_pages: (pages, page size, key heads, width).
        v_pages: as `k_pages`.
        table: (batch, pages of a sequence) int32 or int64: numbers of its pages in their order.
        lengths: as in `decode_attention`, and so are the scale, the splits and the errors.
        scale: of the scores.
        splits: parts of a sequence.

    Returns:
        (batch, heads, width) in the dtype of `q`.
    """
    _check(q, k_pages, v_pages, k_pages.shape[2], lengths)
    if table.dim() != 2 or table.shape[0] != q.shape[0]:
        raise ValueError(f"table must have one row of page numbers for each of {q.shape[0]}.")
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    table = table if table.stride(-1) == 1 else table.contiguous()
    return _decode_attention(q, k_pages, v_pages, table, lengths, scale, splits)


def reference(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """The same in plain torch, as transformers' eager attention; exact for float64 arguments."""
    group = q.shape[1] // k_cache.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k_cache, v_cache))
    scores = torch.matmul(q[:, :, None], k.transpose(2, 3))[:, :, 0]
    scores = scores * (q.shape[-1] ** -0.5 if scale is None else scale)
    beyond = torch.arange(k.shape[2], device=q.device) >= lengths[:, None]
    scores = scores.masked_fill(beyond[:, None], -float("inf"))
    wide = torch.promote_types(q.dtype, torch.float32)
    weights = torch.softmax(scores, dim=-1, dtype=wide).to(q.dtype)
    return torch.matmul(weights[:, :, None], v)[:, :, 0]


def paged_reference(
    q: torch.Tensor,
    k_pages: torch.Tensor,
    v_pages: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """`reference` over pages that are gathered into a contiguous cache first."""
    k, v = (x[table].flatten(1, 2).transpose(1, 2) for x in (k_pages, v_pages))
    return reference(q, k, v, lengths, scale)


def cost(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor,
    scale: float | None = None,
) -> tuple[int, int]:
    """Minimum bytes moved and floating-point operations.

    Bytes: keys and values of the tokens that count read once, q read and the output written once,
    the lengths read once. The parts between the two launches are overhead of the method.
    FLOPs: two products with additions for each query head, token and element of the width.
    """
    tokens = int(lengths.sum())
    moved = 2 * (tokens * k_cache.shape[1] * q.shape[2] + q.numel()) * q.element_size()
    return moved + lengths.numel() * lengths.element_size(), 4 * q.shape[1] * tokens * q.shape[2]


def paged_cost(
    q: torch.Tensor,
    k_pages: torch.Tensor,
    v_pages: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    scale: float | None = None,
) -> tuple[int, int]:
    """`cost`, and a page number read for each page that counts."""
    moved, flops = cost(q, k_pages.transpose(1, 2), v_pages, lengths, scale)
    pages = int(((lengths + k_pages.shape[1] - 1) // k_pages.shape[1]).sum())
    return moved + pages * table.element_size(), flops
