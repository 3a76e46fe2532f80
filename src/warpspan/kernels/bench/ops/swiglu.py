"""SwiGLU: sizes, inputs and other providers."""

from __future__ import annotations

import torch

from warpspan.kernels.bench.op import Arguments, Dims, Function, Op, missing, normal, widths
from warpspan.kernels.swiglu import cost, reference, swiglu


def build(dims: Dims, dtype: torch.dtype, generator: torch.Generator) -> Arguments:
    # Halves of one packed projection, as serving engines lay it out.
    packed = normal(dims["M"], 2 * dims["I"], dtype=dtype, generator=generator)
    return tuple(packed.chunk(2, dim=-1))


def liger() -> Function:
    from liger_kernel.ops import LigerSiLUMulFunction

    return LigerSiLUMulFunction.apply  # type: ignore[no-any-return]


def flashinfer() -> Function:
    from flashinfer.activation import silu_and_mul

    def run(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        packed = gate.as_strided((*up.shape[:-1], 2 * up.shape[-1]), gate.stride())
        return silu_and_mul(packed)  # type: ignore[no-any-return]

    return run


OPS = (
    Op(
        name="swiglu",
        fused=swiglu,
        reference=reference,
        cost=cost,
        build=build,
        timed=tuple({"M": m, "I": 14336} for m in (1, 8, 64, 2048, 8192)),
        checked=tuple(widths(1, 7, 4095, 4097, 8193, name="I")),
        providers={
            "eager-native": missing("torch has no fused silu and product"),
            "liger": liger,
            "flashinfer": flashinfer,
        },
    ),
)
