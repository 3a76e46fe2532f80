"""Attention of a decode step, contiguous and paged: sizes, inputs and other providers."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from warpspan.kernels.bench.op import Arguments, Dims, Function, Op, Unavailable, missing, normal
from warpspan.kernels.decode_attention import (
    cost,
    decode_attention,
    paged_cost,
    paged_decode_attention,
    paged_reference,
    reference,
)


def _lengths(dims: Dims, generator: torch.Generator) -> torch.Tensor:
    """Full caches where timed; odd lengths, 1 and the capacity among them, where checked."""
    lengths = torch.full((dims["B"],), dims["S"], dtype=torch.int64, device=generator.device)
    if dims.get("ragged"):
        lengths -= torch.arange(dims["B"], device=generator.device) * (dims["S"] // 3 + 1)
    return lengths.clamp(min=1)


def build(dims: Dims, dtype: torch.dtype, generator: torch.Generator) -> Arguments:
    shape = dims["B"], dims["Hk"], dims["S"], dims["D"]
    q = normal(dims["B"], dims["Hq"], dims["D"], dtype=dtype, generator=generator)
    k, v = (normal(*shape, dtype=dtype, generator=generator) for _ in range(2))
    return q, k, v, _lengths(dims, generator)


def build_paged(dims: Dims, dtype: torch.dtype, generator: torch.Generator) -> Arguments:
    batch, page = dims["B"], dims["page"]
    each = -(-dims["S"] // page)
    shape = batch * each, page, dims["Hk"], dims["D"]
    q = normal(batch, dims["Hq"], dims["D"], dtype=dtype, generator=generator)
    k, v = (normal(*shape, dtype=dtype, generator=generator) for _ in range(2))
    # Pages in random order, as a serving engine's free list leaves them.
    table = torch.randperm(batch * each, generator=generator, device=generator.device)
    return q, k, v, table.view(batch, each).to(torch.int32), _lengths(dims, generator)


def native() -> Function:
    if torch.__version__ < "2.5":
        raise Unavailable("torch shares key heads in its own attention from 2.5 on")

    def run(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        mask = torch.arange(k.shape[2], device=k.device) < lengths[:, None]
        out = scaled_dot_product_attention(
            q[:, :, None], k, v, attn_mask=mask[:, None, None], enable_gqa=True
        )
        return out[:, :, 0]

    return run


def flashinfer() -> Function:
    from flashinfer import single_decode_with_kv_cache

    def run(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, _lengths: torch.Tensor
    ) -> torch.Tensor:
        if q.shape[0] != 1:
            raise Unavailable("flashinfer plans batches on the host, outside this call")
        return single_decode_with_kv_cache(q[0], k[0], v[0], kv_layout="HND")[None]  # type: ignore[no-any-return]

    return run


def _rows(dims: Dims) -> int:
    return dims["B"]  # one token a sequence: always a decode step


LLAMA = {"Hq": 32, "Hk": 8, "D": 128}
TIMED = ((1, 2048), (1, 32768), (8, 8192), (64, 4096))
NO_LIGER = missing("liger has no attention for decoding")

OPS = (
    Op(
        name="decode_attention",
        fused=decode_attention,
        reference=reference,
        cost=cost,
        build=build,
        timed=tuple({"B": b, "S": s, **LLAMA} for b, s in TIMED),
        checked=(
            {"B": 1, "S": 1, "Hq": 1, "Hk": 1, "D": 16},
            {"B": 3, "S": 300, "Hq": 4, "Hk": 2, "D": 64, "ragged": 1},
            {"B": 2, "S": 513, "Hq": 7, "Hk": 1, "D": 40, "ragged": 1},
            {"B": 0, "S": 16, "Hq": 2, "Hk": 1, "D": 16},
        ),
        providers={"eager-native": native, "liger": NO_LIGER, "flashinfer": flashinfer},
        rows=_rows,
        large=4.0,  # scores of 4 standard deviations: the order of their sums shows beyond that
        uses_dot=True,
    ),
    Op(
        name="paged_decode_attention",
        fused=paged_decode_attention,
        reference=paged_reference,
        cost=paged_cost,
        build=build_paged,
        timed=tuple({"B": b, "S": s, **LLAMA, "page": 16} for b, s in TIMED),
        checked=(
            {"B": 1, "S": 1, "Hq": 1, "Hk": 1, "D": 16, "page": 16},
            {"B": 3, "S": 300, "Hq": 4, "Hk": 2, "D": 64, "page": 7, "ragged": 1},
            {"B": 2, "S": 128, "Hq": 8, "Hk": 1, "D": 128, "page": 32, "ragged": 1},
        ),
        providers={
            "eager-native": missing("torch has no paged attention entry without a compiled mask"),
            "liger": NO_LIGER,
            "flashinfer": missing("flashinfer plans batches on the host, outside this call"),
        },
        rows=_rows,
        large=4.0,  # scores of 4 standard deviations: the order of their sums shows beyond that
        uses_dot=True,
    ),
)
