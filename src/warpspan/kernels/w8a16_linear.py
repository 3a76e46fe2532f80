"""Linear layer with int8 weights and 16-bit activations (W8A16), one scale an output channel.

    y = (x @ weight.T) * scale + bias        weight int8 (outputs, inputs), scale (outputs,)

The scale belongs to the output channel, so it leaves the sum and is applied once at its end. A
decode step reads every weight once and is bound by that: int8 halves the bytes of bf16. A single row
goes by a matrix-vector kernel on the ordinary cores; more go by `tl.dot`, in tiles of at least 16
rows, which cost nothing while the weights are the limit.

Inference only. Needs torch and triton, nothing else: this file can be used alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl


def _tuned(options: list[dict[str, int]], key: list[str]) -> Callable[[Any], Any]:
    """Tune a kernel over a small space; Triton's interpreter takes the first entry only."""
    launch = ("num_warps", "num_stages")
    configurations = [
        triton.Config(
            {name: value for name, value in option.items() if name not in launch},
            num_warps=option["num_warps"],
            num_stages=option["num_stages"],
        )
        for option in options
    ]

    def decorate(kernel: Any) -> Any:
        interpreted = not isinstance(kernel, triton.JITFunction)
        return triton.autotune(configurations[:1] if interpreted else configurations, key)(kernel)

    return decorate


# Bytes in flight decide (latency times bandwidth is about 18 KB an SM on an H100): each thread has
# one or two 16-byte vectors of weights under way, and each SM some programs.
_VECTOR = [
    {"BLOCK_N": 8, "BLOCK_K": 512, "num_warps": 4, "num_stages": 1},
    {"BLOCK_N": 4, "BLOCK_K": 1024, "num_warps": 4, "num_stages": 1},
    {"BLOCK_N": 16, "BLOCK_K": 256, "num_warps": 4, "num_stages": 1},
    {"BLOCK_N": 8, "BLOCK_K": 512, "num_warps": 8, "num_stages": 1},
]
# Few rows: narrow tiles, so that 4096 outputs still make a program for every SM.
_MATRIX = [
    {"BLOCK_M": 16, "BLOCK_N": 32, "BLOCK_K": 256, "num_warps": 4, "num_stages": 4},
    {"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_K": 256, "num_warps": 4, "num_stages": 5},
    {"BLOCK_M": 16, "BLOCK_N": 64, "BLOCK_K": 128, "num_warps": 4, "num_stages": 4},
    {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 4},
    {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
]


@_tuned(_VECTOR, key=["n", "k"])
@triton.jit
def _vector(
    x_ptr,
    weight_ptr,
    scale_ptr,
    bias_ptr,
    y_ptr,
    n,
    k,
    weight_stride,
    HAS_BIAS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    output = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = output < n
    weight_row = output.to(tl.int64)[:, None] * weight_stride
    lane = tl.arange(0, BLOCK_K)
    # A sum for each lane: the reduction across threads waits for the end.
    total = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for first in range(0, k, BLOCK_K):
        at = first + lane
        weight = tl.load(
            weight_ptr + weight_row + at[None, :],
            mask=inside[:, None] & (at < k)[None, :],
            other=0,
            eviction_policy="evict_first",
        )
        x = tl.load(x_ptr + at, mask=at < k, other=0.0)
        total += weight.to(tl.float32) * x.to(tl.float32)[None, :]
    scale = tl.load(scale_ptr + output, mask=inside, other=0.0).to(tl.float32)
    y = tl.sum(total, axis=1) * scale
    if HAS_BIAS:
        y += tl.load(bias_ptr + output, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + output, y.to(y_ptr.dtype.element_ty), mask=inside)


@_tuned(_MATRIX, key=["m_bucket", "n", "k"])
@triton.jit
def _matrix(
    x_ptr,
    weight_ptr,
    scale_ptr,
    bias_ptr,
    y_ptr,
    m,
    n,
    k,
    m_bucket,
    x_stride,
    weight_stride,
    HAS_BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    # Neighbouring programs share their weights: they differ in the rows of x first.
    blocks_m = tl.cdiv(m, BLOCK_M)
    row = (tl.program_id(0) % blocks_m) * BLOCK_M + tl.arange(0, BLOCK_M)
    output = (tl.program_id(0) // blocks_m) * BLOCK_N + tl.arange(0, BLOCK_N)
    lane = tl.arange(0, BLOCK_K)
    x_row = row.to(tl.int64)[:, None] * x_stride
    weight_row = output.to(tl.int64)[None, :] * weight_stride
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for first in range(0, k, BLOCK_K):
        at = first + lane
        x = tl.load(
            x_ptr + x_row + at[None, :],
            mask=(row < m)[:, None] & (at < k)[None, :],
            other=0.0,
        )
        weight = tl.load(
            weight_ptr + weight_row + at[:, None],
            mask=(output < n)[None, :] & (at < k)[:, None],
            other=0,
        )
        total = tl.dot(x, weight.to(x.dtype), total, input_precision=PRECISION)
    scale = tl.load(scale_ptr + output, mask=output < n, other=0.0).to(tl.float32)
    total = total * scale[None, :]
    if HAS_BIAS:
        bias = tl.load(bias_ptr + output, mask=output < n, other=0.0).to(tl.float32)
        total += bias[None, :]
    y = y_ptr + row.to(tl.int64)[:, None] * n + output[None, :]
    mask = (row < m)[:, None] & (output < n)[None, :]
    tl.store(y, total.to(y_ptr.dtype.element_ty), mask=mask)


@torch.library.custom_op(
    "warpspan::w8a16_linear",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor scale, Tensor? bias) -> Tensor",
)
def _w8a16_linear(
    x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    n, k = weight.shape
    y = torch.empty((*x.shape[:-1], n), dtype=x.dtype, device=x.device)
    if not y.numel():
        return y
    x = x.reshape(-1, k)
    x = x if x.stride(-1) == 1 else x.contiguous()
    weight = weight if weight.stride(-1) == 1 else weight.contiguous()
    m = x.shape[0]
    operands = (x, weight, scale.contiguous(), scale if bias is None else bias.contiguous(), y)
    if m == 1:

        def vector_grid(config: dict[str, Any]) -> tuple[int]:
            return (triton.cdiv(n, config["BLOCK_N"]),)

        _vector[vector_grid](*operands, n, k, weight.stride(0), HAS_BIAS=bias is not None)
        return y

    def matrix_grid(config: dict[str, Any]) -> tuple[int]:
        return (triton.cdiv(m, config["BLOCK_M"]) * triton.cdiv(n, config["BLOCK_N"]),)

    _matrix[matrix_grid](
        *operands,
        m,
        n,
        k,
        triton.next_power_of_2(m),
        x.stride(0),
        weight.stride(0),
        HAS_BIAS=bias is not None,
        PRECISION="ieee" if x.dtype == torch.float32 else "tf32",
    )
    return y


@_w8a16_linear.register_fake
def _(
    x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def quantize(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight (outputs, inputs) as int8 and one scale a row: symmetric, by the largest value.

    Returns:
        (int8 weight, scale): `int8 * scale` differs from the weight by half a scale at most. The
        scale is float32.
    """
    wide = weight.detach().to(torch.float32)
    scale = wide.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    return (wide / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def w8a16_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """`x @ (weight * scale).T + bias`, the weights read as int8.

    Args:
        x: (..., inputs), float16, bfloat16 or float32.
        weight: int8 (outputs, inputs), from `quantize`.
        scale: (outputs,).
        bias: (outputs,) or None.

    Returns:
        (..., outputs) in the dtype of `x`.

    Raises:
        ValueError: shapes or dtypes do not fit.
        RuntimeError: a gradient would be needed.
    """
    if weight.dtype != torch.int8 or weight.dim() != 2:
        raise ValueError(
            f"w8a16_linear needs an int8 weight of two dimensions, not {weight.dtype} "
            f"{tuple(weight.shape)}; quantize() makes one."
        )
    if x.shape[-1] != weight.shape[1] or scale.shape != weight.shape[:1]:
        raise ValueError(
            f"x {tuple(x.shape)}, weight {tuple(weight.shape)} and scale {tuple(scale.shape)} do "
            "not fit: they must be (..., inputs), (outputs, inputs) and (outputs,)."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have the shape {tuple(weight.shape[:1])}.")
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, scale, bias)):
        raise RuntimeError(
            "w8a16_linear is for inference and has no gradient: "
            "call it under torch.no_grad() or torch.inference_mode()."
        )
    return _w8a16_linear(x, weight, scale, bias)


def reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """The same in plain torch: the weight is made whole first. Exact for float64 x and scale."""
    whole = (weight.to(scale.dtype) * scale[:, None]).to(x.dtype)
    return torch.nn.functional.linear(x, whole, None if bias is None else bias.to(x.dtype))


def cost(
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> tuple[int, int]:
    """Minimum bytes moved and floating-point operations.

    Bytes: x, the int8 weight, scale and bias read once, y written once.
    FLOPs: a product and an addition for each weight and row of x.
    """
    n, k = weight.shape
    rows = x.numel() // k if k else 0
    moved = (x.numel() + rows * n) * x.element_size() + weight.numel()
    moved += scale.numel() * scale.element_size()
    moved += 0 if bias is None else bias.numel() * bias.element_size()
    return moved, 2 * rows * n * k
