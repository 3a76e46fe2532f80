"""Temperature, top-k and softmax of logits for sampling, in two launches.

`top_k_softmax(logits, k, temperature)` returns the probabilities of the k likeliest tokens, in
falling order, and their ids: what a sampler draws from. Eager code divides, selects, and
normalises over the vocabulary in float32; here the logits are read once, in their own dtype.

How: the vocabulary is cut into chunks of 8192. The first launch finds in each chunk the k-th
largest value by bisection over the bits of an order-preserving integer key (32 counting passes
over registers, in place of a sort), and writes the chunk's k candidates. The second sorts the
candidates of a row, (key, id) packed in 64 bits, and normalises the first k. Equal logits are
taken in the order of their ids. NaN counts as the largest value, as in `torch.topk`.

Inference only. Needs torch and triton, nothing else: this file can be used alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

CHUNK = 8192
MAX_K = 256


@triton.jit
def _candidates(
    logits_ptr,
    candidates_ptr,
    width,
    chunks,
    k,
    logits_stride,
    BLOCK: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    row = (tl.program_id(0) // chunks).to(tl.int64)
    chunk = tl.program_id(0) % chunks
    lane = tl.arange(0, BLOCK)
    token = chunk * BLOCK + lane
    inside = token < width
    x = tl.load(
        logits_ptr + row * logits_stride + token,
        mask=inside,
        other=0.0,
        eviction_policy="evict_first",
    ).to(tl.float32)
    # Signed integers in the order of the floats: negative floats have their lower bits turned.
    bits = x.to(tl.int32, bitcast=True)
    key = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    key = tl.where(x != x, 0x7FFFFFFF, key)
    # Beyond the vocabulary: below every key, -inf's included.
    key = tl.where(inside, key, -0x80000000)
    # The largest threshold that at least k keys reach, from the sign bit down.
    threshold = tl.where(tl.sum((key >= 0).to(tl.int32), axis=0) >= k, 0, -0x80000000)
    for step in range(31):
        trial = threshold | (1 << (30 - step))
        count = tl.sum((key >= trial).to(tl.int32), axis=0)
        threshold = tl.where(count >= k, trial, threshold)
    above = (key > threshold).to(tl.int32)
    equal = (key == threshold).to(tl.int32)
    # Ties at the threshold fill the remaining places in the order of their ids.
    place_above = tl.cumsum(above, axis=0) - above
    count_above = tl.sum(above, axis=0)
    place_equal = count_above + tl.cumsum(equal, axis=0) - equal
    place = tl.where(above == 1, place_above, place_equal)
    kept = ((above == 1) | (equal == 1)) & (place < k)
    # The id in the low half, turned so that a lower id makes a larger key.
    packed = (key.to(tl.int64) << 32) | (0x7FFFFFFF - token).to(tl.int64)
    base = (row * chunks + chunk) * BLOCK_K
    tl.store(candidates_ptr + base + place, packed, mask=kept)


@triton.jit
def _select(
    candidates_ptr,
    logits_ptr,
    probabilities_ptr,
    ids_ptr,
    candidates,
    k,
    logits_stride,
    temperature,
    BLOCK_K: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    # Of each chunk's BLOCK_K places the first k are written.
    written = (lane < candidates) & (lane % BLOCK_K < k)
    lowest = -0x8000000000000000
    packed = tl.load(candidates_ptr + row * candidates + lane, mask=written, other=lowest)
    packed = tl.sort(packed, descending=True)
    first = lane < k
    token = 0x7FFFFFFF - (packed & 0xFFFFFFFF)
    # The exact logit again, from the few lines that hold the winners.
    x = tl.load(logits_ptr + row * logits_stride + token, mask=first, other=-float("inf"))
    x = tl.where(first, x.to(tl.float32), -float("inf"))
    # Divided after the subtraction: the difference is small, and so is what the division rounds.
    power = tl.exp((x - tl.max(x, axis=0)) / temperature)
    probabilities = power / tl.sum(power, axis=0)
    tl.store(probabilities_ptr + row * k + lane, probabilities, mask=first)
    tl.store(ids_ptr + row * k + lane, token, mask=first)


@torch.library.custom_op(
    "warpspan::top_k_softmax",
    mutates_args=(),
    schema="(Tensor logits, SymInt k, float temperature) -> (Tensor, Tensor)",
)
def _top_k_softmax(
    logits: torch.Tensor, k: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (*logits.shape[:-1], k)
    probabilities = torch.empty(shape, dtype=torch.float32, device=logits.device)
    ids = torch.empty(shape, dtype=torch.int64, device=logits.device)
    if not logits.numel():
        return probabilities, ids
    logits = logits.reshape(-1, logits.shape[-1])
    if logits.stride(-1) != 1:
        logits = logits.contiguous()
    rows, width = logits.shape
    block = min(CHUNK, max(16, triton.next_power_of_2(width)))
    chunks = triton.cdiv(width, block)
    block_k = triton.next_power_of_2(k)
    candidates = torch.empty((rows, chunks * block_k), dtype=torch.int64, device=logits.device)
    _candidates[(rows * chunks,)](
        logits,
        candidates,
        width,
        chunks,
        k,
        logits.stride(0),
        BLOCK=block,
        BLOCK_K=block_k,
        num_warps=max(4, block // 512),
    )
    sorted_block = triton.next_power_of_2(chunks * block_k)
    _select[(rows,)](
        candidates,
        logits,
        probabilities,
        ids,
        chunks * block_k,
        k,
        logits.stride(0),
        temperature,
        BLOCK_K=block_k,
        BLOCK=sorted_block,
        num_warps=min(16, max(1, sorted_block // 128)),
    )
    return probabilities, ids


@_top_k_softmax.register_fake
def _(logits: torch.Tensor, k: int, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (*logits.shape[:-1], k)
    return (
        logits.new_empty(shape, dtype=torch.float32),
        logits.new_empty(shape, dtype=torch.int64),
    )


def top_k_softmax(
    logits: torch.Tensor, k: int, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and ids of the k likeliest tokens.

    Args:
        logits: (..., vocabulary); rows may be strided.
        k: how many, at most 256 and at most the vocabulary.
        temperature: the logits are divided by it.

    Returns:
        (probabilities, ids), each (..., k), in falling order: float32 and int64. The
        probabilities of a row sum to 1 over its k tokens.

    Raises:
        ValueError: `k` or `temperature` out of range.
        RuntimeError: a gradient would be needed.
    """
    if not 1 <= k <= min(MAX_K, logits.shape[-1]):
        raise ValueError(
            f"k must be between 1 and {min(MAX_K, logits.shape[-1])} "
            f"for {logits.shape[-1]} logits a row, not {k}."
        )
    if not temperature > 0:
        raise ValueError(
            f"temperature must be above 0, not {temperature}; take torch.argmax for greedy choice."
        )
    if torch.is_grad_enabled() and logits.requires_grad:
        raise RuntimeError(
            "top_k_softmax is for inference and has no gradient: "
            "call it under torch.no_grad() or torch.inference_mode()."
        )
    return _top_k_softmax(logits, k, temperature)


def reference(
    logits: torch.Tensor, k: int, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in plain torch, in float32 as transformers' generate; exact for float64."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    values, ids = torch.topk(wide, k, dim=-1)
    return torch.softmax(values, dim=-1), ids


def cost(logits: torch.Tensor, k: int, temperature: float = 1.0) -> tuple[int, int]:
    """Minimum bytes moved and floating-point operations.

    Bytes: the logits read once, k float32 probabilities and k int64 ids written a row. The
    candidates between the two launches, and the winners read again, are overhead of the method.
    FLOPs: a comparison for each logit, then 5 for each of the k.
    """
    chosen = logits[..., 0].numel() * k
    return logits.numel() * logits.element_size() + 12 * chosen, logits.numel() + 5 * chosen
