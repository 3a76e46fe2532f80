"""The decoder block: sizes, inputs and other providers."""

from __future__ import annotations

import torch

from warpspan.kernels.bench.op import Arguments, Dims, Op, missing, normal
from warpspan.kernels.decoder_block import Cache, Weights, cost, decoder_block, reference


def build(dims: Dims, dtype: torch.dtype, generator: torch.Generator) -> Arguments:
    batch, tokens, cached = dims["B"], dims["T"], dims["S"]
    hidden, heads, key_heads, width = dims["H"], dims["Hq"], dims["Hk"], dims["D"]

    def linear(outputs: int, inputs: int) -> torch.Tensor:
        return normal(outputs, inputs, dtype=dtype, generator=generator, scale=inputs**-0.5)

    weights = Weights(
        input_norm=normal(hidden, dtype=dtype, generator=generator),
        qkv=linear((heads + 2 * key_heads) * width, hidden),
        out=linear(hidden, heads * width),
        output_norm=normal(hidden, dtype=dtype, generator=generator),
        gate_up=linear(2 * dims["I"], hidden),
        down=linear(hidden, dims["I"]),
    )
    shape = batch, key_heads, cached + tokens, width
    keys, values = (normal(*shape, dtype=dtype, generator=generator) for _ in range(2))
    lengths = torch.full((batch,), cached, dtype=torch.int64, device=generator.device)
    angle = torch.rand(1, tokens, width // 2, generator=generator, device=generator.device)
    angle = torch.cat((angle, angle), dim=-1) * 6.28
    x = normal(batch, tokens, hidden, dtype=dtype, generator=generator)
    cache = Cache(keys, values, lengths)
    return x, weights, cache, angle.cos().to(dtype), angle.sin().to(dtype)


LLAMA_8B = {"H": 4096, "I": 14336, "Hq": 32, "Hk": 8, "D": 128}
SMALL = {"H": 64, "I": 96, "Hq": 4, "Hk": 2, "D": 16}

OPS = (
    Op(
        name="decoder_block",
        fused=decoder_block,
        reference=reference,
        cost=cost,
        build=build,
        timed=tuple(
            {"B": b, "T": t, "S": s, **LLAMA_8B}
            for b, t, s in ((1, 1, 2048), (8, 1, 2048), (64, 1, 2048), (1, 2048, 0))
        ),
        checked=({"B": 3, "T": 1, "S": 70, **SMALL}, {"B": 2, "T": 3, "S": 0, **SMALL}),
        providers={
            "eager-native": missing("a block has no entry of its own in torch"),
            "liger": missing("liger patches transformers' modules; see warpspan bench model"),
            "flashinfer": missing("flashinfer has no whole block"),
        },
        rows=lambda dims: dims["B"] * dims["T"],
        uses_dot=True,
    ),
)
