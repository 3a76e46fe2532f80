"""Softmax: sizes, inputs and other providers."""

from __future__ import annotations

import torch

from warpspan.kernels.bench.op import Arguments, Dims, Function, Op, missing, normal, widths
from warpspan.kernels.softmax import cost, reference, softmax


def build(dims: Dims, dtype: torch.dtype, generator: torch.Generator) -> Arguments:
    return (normal(dims["M"], dims["N"], dtype=dtype, generator=generator, scale=3.0),)


def native() -> Function:
    return lambda x: torch.softmax(x, dim=-1)


def liger() -> Function:
    from liger_kernel.ops import LigerSoftmaxFunction

    return LigerSoftmaxFunction.apply  # type: ignore[no-any-return]


OPS = (
    Op(
        name="softmax",
        fused=softmax,
        reference=reference,
        cost=cost,
        build=build,
        timed=tuple(
            {"M": m, "N": n}
            for m, n in (
                (1, 4096),
                (8, 8192),
                (64, 128256),
                (2048, 4096),
                (8192, 8192),
                (2048, 128256),
            )
        ),
        checked=(
            *widths(1, 7, 4095, 4097, 8193, 32769, 40000, name="N"),
            {"M": 2049, "N": 5},
        ),
        providers={
            "eager-native": native,
            "liger": liger,
            "flashinfer": missing("flashinfer has softmax for sampling only"),
        },
    ),
)
