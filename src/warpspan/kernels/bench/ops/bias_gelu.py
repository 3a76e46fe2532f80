"""Bias and GELU, exact and by tanh: sizes, inputs and other providers."""

from __future__ import annotations

import torch

from warpspan.kernels.bench.op import Arguments, Builder, Dims, Op, missing, normal, widths
from warpspan.kernels.bias_gelu import bias_gelu, cost, reference


def build(dims: Dims, dtype: torch.dtype, generator: torch.Generator) -> Arguments:
    x = normal(dims["M"], dims["I"], dtype=dtype, generator=generator, scale=2.0)
    return x, normal(dims["I"], dtype=dtype, generator=generator)


def build_tanh(dims: Dims, dtype: torch.dtype, generator: torch.Generator) -> Arguments:
    return (*build(dims, dtype, generator), "tanh")


def _op(name: str, builder: Builder) -> Op:
    return Op(
        name=name,
        fused=bias_gelu,
        reference=reference,
        cost=cost,
        build=builder,
        timed=tuple({"M": m, "I": 4096} for m in (1, 8, 64, 2048, 8192, 32768)),
        checked=tuple(widths(1, 7, 4095, 4097, 8193, name="I")),
        providers={
            "eager-native": missing("eager calls torch's own gelu already"),
            "liger": missing("liger has no GELU with a bias"),
            "flashinfer": missing("flashinfer has no GELU with a bias"),
        },
    )


OPS = (_op("bias_gelu", build), _op("bias_gelu_tanh", build_tanh))
