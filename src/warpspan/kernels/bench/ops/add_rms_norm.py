"""Residual addition and RMSNorm: sizes, inputs and other providers."""

from __future__ import annotations

import torch
from torch.nn.functional import rms_norm

from warpspan.kernels.add_rms_norm import add_rms_norm, cost, reference
from warpspan.kernels.bench.op import Arguments, Dims, Function, Op, normal, widths


def build(dims: Dims, dtype: torch.dtype, generator: torch.Generator) -> Arguments:
    rows, width = dims["M"], dims["H"]
    x, residual = (normal(rows, width, dtype=dtype, generator=generator) for _ in range(2))
    return x, residual, normal(width, dtype=dtype, generator=generator)


def native() -> Function:
    def run(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor) -> Arguments:
        total = x + residual
        return rms_norm(total, weight.shape, weight, 1e-6), total

    return run


def liger() -> Function:
    from liger_kernel.ops import LigerFusedAddRMSNormFunction

    return lambda x, residual, weight: LigerFusedAddRMSNormFunction.apply(x, residual, weight, 1e-6)


def flashinfer() -> Function:
    from flashinfer.norm import fused_add_rmsnorm

    def run(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor) -> Arguments:
        fused_add_rmsnorm(x, residual, weight, 1e-6)  # in place: x the norm, residual the sum
        return x, residual

    return run


OPS = (
    Op(
        name="add_rms_norm",
        fused=add_rms_norm,
        reference=reference,
        cost=cost,
        build=build,
        timed=tuple({"M": m, "H": h} for m in (1, 8, 64, 2048, 8192) for h in (4096, 8192)),
        checked=(*widths(1, 7, 4095, 4097, 8193), {"M": 2049, "H": 5}),
        providers={"eager-native": native, "liger": liger, "flashinfer": flashinfer},
    ),
)
