"""RoPE of queries and keys: sizes, inputs and other providers."""

from __future__ import annotations

import torch

from warpspan.kernels.bench.op import Arguments, Dims, Function, Op, missing, normal
from warpspan.kernels.rope import cost, reference, rope


def build(dims: Dims, dtype: torch.dtype, generator: torch.Generator) -> Arguments:
    batch, tokens, width = dims["B"], dims["S"], dims["D"]

    def heads(count: int) -> torch.Tensor:
        # (batch, tokens, heads, width) seen as (batch, heads, tokens, width), as transformers does.
        x = normal(batch, tokens, count, width, dtype=dtype, generator=generator)
        return x.transpose(1, 2)

    angle = torch.rand(1, tokens, width // 2, generator=generator, device=generator.device)
    angle = torch.cat((angle, angle), dim=-1) * 6.28
    return heads(dims["Hq"]), heads(dims["Hk"]), angle.cos().to(dtype), angle.sin().to(dtype)


def liger() -> Function:
    from liger_kernel.ops import LigerRopeFunction

    return LigerRopeFunction.apply  # type: ignore[no-any-return]  # q and k in place


LLAMA = {"Hq": 32, "Hk": 8, "D": 128}

OPS = (
    Op(
        name="rope",
        fused=rope,
        reference=reference,
        cost=cost,
        build=build,
        timed=tuple(
            {"B": b, "S": s, **LLAMA} for b, s in ((1, 1), (8, 1), (64, 1), (1, 2048), (4, 2048))
        ),
        checked=(
            {"B": 1, "S": 7, "Hq": 1, "Hk": 1, "D": 2},
            {"B": 2, "S": 3, "Hq": 7, "Hk": 1, "D": 64},
            {"B": 1, "S": 2, "Hq": 71, "Hk": 5, "D": 130},
            {"B": 2, "S": 0, "Hq": 4, "Hk": 2, "D": 64},
        ),
        providers={
            "eager-native": missing("torch has no rotary embedding of its own"),
            "liger": liger,
            "flashinfer": missing("flashinfer's RoPE takes positions, not cos and sin"),
        },
        rows=lambda dims: dims["B"] * dims["S"],
    ),
)
