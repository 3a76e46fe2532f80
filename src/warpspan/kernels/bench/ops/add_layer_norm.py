"""Residual addition and LayerNorm: sizes, inputs and other providers."""

from __future__ import annotations

import torch

from warpspan.kernels.add_layer_norm import add_layer_norm, cost, reference
from warpspan.kernels.bench.op import Arguments, Dims, Function, Op, missing, normal, widths


def build(dims: Dims, dtype: torch.dtype, generator: torch.Generator) -> Arguments:
    rows, width = dims["M"], dims["H"]
    x, residual = (normal(rows, width, dtype=dtype, generator=generator) for _ in range(2))
    weight, bias = (normal(width, dtype=dtype, generator=generator) for _ in range(2))
    return x, residual, weight, bias


def liger() -> Function:
    from liger_kernel.ops import LigerLayerNormFunction

    # Liger has no residual in its LayerNorm: the addition stays a launch of its own.
    return lambda x, residual, weight, bias: LigerLayerNormFunction.apply(
        x + residual, weight, bias, 1e-5
    )


OPS = (
    Op(
        name="add_layer_norm",
        fused=add_layer_norm,
        reference=reference,
        cost=cost,
        build=build,
        timed=tuple({"M": m, "H": h} for m in (1, 8, 64, 2048, 8192) for h in (1024, 4096)),
        checked=(*widths(1, 7, 4095, 4097, 8193), {"M": 2049, "H": 5}),
        providers={
            "eager-native": missing("eager calls torch's own layer_norm already"),
            "liger": liger,
            "flashinfer": missing("flashinfer has no LayerNorm with a residual"),
        },
    ),
)
