"""Linear with int8 weights: sizes, inputs and other providers.

`eager` is the linear with the whole weight in the dtype of x, made once outside the timing: what
quantization replaces.
"""

from __future__ import annotations

import torch

from warpspan.kernels.bench.op import Arguments, Dims, Op, missing, normal
from warpspan.kernels.w8a16_linear import cost, quantize, reference, w8a16_linear


def build(dims: Dims, dtype: torch.dtype, generator: torch.Generator) -> Arguments:
    rows, inputs, outputs = dims["M"], dims["K"], dims["N"]
    x = normal(rows, inputs, dtype=dtype, generator=generator)
    whole = normal(
        outputs, inputs, dtype=torch.float32, generator=generator, scale=max(1, inputs) ** -0.5
    )
    weight, scale = quantize(whole)
    return x, weight, scale, normal(outputs, dtype=dtype, generator=generator)


def whole_weight(arguments: Arguments) -> Arguments:
    """The linear without quantization: (x, weight in its dtype, bias)."""
    x, weight, scale, bias = arguments
    return x, (weight * scale[:, None]).to(x.dtype), bias


OPS = (
    Op(
        name="w8a16_linear",
        fused=w8a16_linear,
        reference=reference,
        cost=cost,
        build=build,
        timed=tuple(
            {"M": m, "K": k, "N": n}
            for m in (1, 8, 64, 2048)
            for k, n in ((4096, 4096), (4096, 28672))
        ),
        checked=(
            {"M": 1, "K": 1, "N": 1},
            {"M": 1, "K": 4097, "N": 7},
            {"M": 1, "K": 4095, "N": 17},
            {"M": 2, "K": 8193, "N": 5},
            {"M": 7, "K": 129, "N": 33},
            {"M": 17, "K": 64, "N": 65},
            {"M": 0, "K": 64, "N": 8},
        ),
        providers={
            "eager-native": missing("torch has no public linear with int8 weights only"),
            "liger": missing("liger has no quantized linear"),
            "flashinfer": missing("flashinfer has no linear with int8 weights"),
        },
        eager=torch.nn.functional.linear,
        eager_arguments=whole_weight,
        uses_dot=True,
    ),
)
