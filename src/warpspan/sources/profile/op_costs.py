"""Floating point operations and bytes of an operator, from the shapes of its inputs.

The formulas are the published ones: 2·M·N·K for a matrix product, 2·N·O·(C/G)·∏kernel·∏output for
a convolution, 2·B·H·S·T·(D+Dv) for attention (FlashAttention, appendix; half of it where it is
causal and S = T), 5 operations an element for a normalization, 1 for elementwise work. Bytes are
the inputs read once and the output written once: what a perfect cache would move.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple, TypeAlias

Shape: TypeAlias = tuple[int, ...]


class OpCost(NamedTuple):
    """What an operator has to do.

    Args:
        kind: matmul, attention, convolution, normalization, elementwise.
        flops: floating point operations.
        nbytes: bytes read and written.
        dtype: of the arithmetic: f64, f32, f16, f8, i8, and None where it is another.
    """

    kind: str
    flops: float
    nbytes: float
    dtype: str | None


class OpInputs(NamedTuple):
    """What an operator was called with.

    Args:
        shapes: types and shapes of its tensors, as `bf16[8,512] bf16[512,1024]`.
        cost: what that has to do, None where no formula fits.
    """

    shapes: str
    cost: OpCost | None


class _Op(NamedTuple):
    """The inputs of an operator: a shape, an item size and a text for each."""

    shapes: Sequence[Shape | None]
    sizes: Sequence[int]
    values: Sequence[str]

    def nbytes(self) -> float:
        return sum(
            prod(shape) * size
            for shape, size in zip(self.shapes, self.sizes, strict=True)
            if shape is not None
        )

    def numbers(self, at: int) -> tuple[int, ...] | None:
        try:
            value = json.loads(self.values[at])
        except (IndexError, ValueError):
            return None
        return tuple(value) if isinstance(value, list) else (value,)

    def is_true(self, at: int) -> bool:
        return at < len(self.values) and self.values[at] in ("True", "1", "true")

    def tensor(self, at: int) -> Shape:
        """The shape of an input; raises IndexError where it is none."""
        shape = self.shapes[at]
        if shape is None:
            raise IndexError(at)
        return shape


_NAMES = {
    "double": "f64",
    "float": "f32",
    "c10::Half": "f16",
    "c10::BFloat16": "bf16",
    "long int": "i64",
    "long": "i64",
    "int": "i32",
    "signed char": "i8",
    "unsigned char": "u8",
}
_SIZES = {
    "double": 8,
    "long int": 8,
    "long": 8,
    "c10::complex<float>": 8,
    "float": 4,
    "int": 4,
    "c10::Half": 2,
    "c10::BFloat16": 2,
    "short": 2,
    "signed char": 1,
    "unsigned char": 1,
    "bool": 1,
}
_ARITHMETIC = {
    "double": "f64",
    "float": "f32",
    "c10::Half": "f16",
    "c10::BFloat16": "f16",
    "signed char": "i8",
}
_FORMULAS: dict[str, tuple[str, Callable[[_Op], tuple[float, float]]]] = {}
"""Kind and formula by name without `aten::`: operations, and bytes of the output in items."""


def op_inputs(name: str, dims: Any, types: Any, values: Any) -> OpInputs:
    """What the profiler's `Input Dims`, `Input type` and `Concrete Inputs` say."""
    shapes = []
    for shape, kind in zip(dims, types, strict=False) if isinstance(types, list) else ():
        if shape and isinstance(shape, list) and kind != "ScalarList":
            text = str(kind).removeprefix("c10::").lower()
            shapes.append(_NAMES.get(kind, text) + str(shape).replace(" ", ""))
    return OpInputs(" ".join(shapes), op_cost(name, dims, types, values))


def op_cost(name: str, dims: Any, types: Any, values: Any) -> OpCost | None:
    """The cost of an operator; None where no formula fits or its shapes are not recorded.

    Args:
        name: as the profiler writes it.
        dims: `Input Dims`, a shape for each input.
        types: `Input type`, a C++ type for each input.
        values: `Concrete Inputs`, a text for each input, or nothing.
    """
    entry = _FORMULAS.get(name.removeprefix("aten::").rstrip("_"))
    if entry is None or not isinstance(dims, list) or not isinstance(types, list):
        return None
    kind, formula = entry
    shapes, sizes, names = _inputs(dims, types)
    op = _Op(shapes, sizes, values if isinstance(values, list) else ())
    try:
        flops, written = formula(op)
    except (IndexError, TypeError, ValueError, ZeroDivisionError):
        return None
    dtype = next((name for name in names if name), None)
    item = next((size for size, name in zip(sizes, names, strict=True) if name and size), 0)
    return OpCost(kind, flops, op.nbytes() + written * item, dtype)


def _inputs(
    dims: list[Any], types: list[Any]
) -> tuple[list[Shape | None], list[int], list[str | None]]:
    """Shapes, item sizes and arithmetic of the inputs; those of a list stand one by one."""
    shapes: list[Shape | None] = []
    sizes: list[int] = []
    names: list[str | None] = []
    for shape, kind in zip(dims, types, strict=False):
        is_list = isinstance(shape, list) and bool(shape) and isinstance(shape[0], list)
        for one in shape if is_list else [shape]:
            tensor = isinstance(one, list) and all(type(size) is int for size in one)
            # A number has no shape either: `[]` stands for both.
            known = tensor and (bool(one) or kind in _SIZES)
            shapes.append(tuple(one) if known else None)
            sizes.append(_item(kind))
            names.append(_arithmetic(kind) if known else None)
    return shapes, sizes, names


def _item(kind: Any) -> int:
    if isinstance(kind, str) and kind.startswith("c10::Float8"):
        return 1
    return _SIZES.get(kind, 0)


def _arithmetic(kind: Any) -> str | None:
    if isinstance(kind, str) and kind.startswith("c10::Float8"):
        return "f8"
    return _ARITHMETIC.get(kind)


def _product(first: int) -> Callable[[_Op], tuple[float, float]]:
    """Of the matrices that stand at `first` and behind it, batched or not."""

    def formula(op: _Op) -> tuple[float, float]:
        *batch, rows, inner = op.tensor(first)
        columns = op.tensor(first + 1)[-1]
        written = prod(batch) * rows * columns
        return 2.0 * written * inner, written

    return formula


def _linear(op: _Op) -> tuple[float, float]:
    *batch, inner = op.tensor(0)
    written = prod(batch) * op.tensor(1)[0]
    return 2.0 * written * inner, written


def _attention(causal_at: int | None, heads_at: int) -> Callable[[_Op], tuple[float, float]]:
    """Of queries, keys and values in front, with the heads at the given dimension."""

    def formula(op: _Op) -> tuple[float, float]:
        query, key, value = op.tensor(0), op.tensor(1), op.tensor(2)
        length_at = 3 - heads_at
        batch, heads, queries = query[0], query[heads_at], query[length_at]
        keys = key[length_at]
        flops = 2.0 * batch * heads * queries * keys * (query[3] + value[3])
        if causal_at is not None and op.is_true(causal_at) and queries == keys:
            flops /= 2
        return flops, batch * heads * queries * value[3]

    return formula


def _convolution(
    stride_at: int, padding_at: int, dilation_at: int, transposed_at: int | None = None
) -> Callable[[_Op], tuple[float, float]]:
    """Of an image and weights in front, and the rest where it stands."""

    def formula(op: _Op) -> tuple[float, float]:
        images, channels, *size = op.tensor(0)
        weight = op.tensor(1)
        kernel = weight[2:]
        if transposed_at is not None and op.is_true(transposed_at):
            flops = 2.0 * images * channels * prod(size) * weight[1] * prod(kernel)
            return flops, 0.0
        stride, padding, dilation = (
            _for_each(op.numbers(at), len(size)) for at in (stride_at, padding_at, dilation_at)
        )
        output = [
            (length + 2 * pad - spread * (width - 1) - 1) // step + 1
            for length, pad, spread, width, step in zip(
                size, padding, dilation, kernel, stride, strict=True
            )
        ]
        written = images * weight[0] * prod(output)
        return 2.0 * written * weight[1] * prod(kernel), written

    return formula


def _for_each(values: tuple[int, ...] | None, count: int) -> tuple[int, ...]:
    if not values:
        raise ValueError(values)
    return values * count if len(values) == 1 else values


def _per_item(operations: float) -> Callable[[_Op], tuple[float, float]]:
    """Of an output that is as large as the first input is when it is broadcast."""

    def formula(op: _Op) -> tuple[float, float]:
        items = max((prod(shape) for shape in op.shapes if shape is not None), default=None)
        if items is None:
            raise ValueError(op)
        return operations * items, items

    return formula


def _reduction(op: _Op) -> tuple[float, float]:
    return float(prod(op.tensor(0))), 0.0


def _move(op: _Op) -> tuple[float, float]:
    """Of `copy_`: both sides are inputs."""
    return 0.0, 0.0 if len(op.shapes) > 1 and op.shapes[1] is not None else prod(op.tensor(0))


_FORMULAS.update(
    {
        "mm": ("matmul", _product(0)),
        "_int_mm": ("matmul", _product(0)),
        "_scaled_mm": ("matmul", _product(0)),
        "bmm": ("matmul", _product(0)),
        "addmm": ("matmul", _product(1)),
        "_addmm_activation": ("matmul", _product(1)),
        "baddbmm": ("matmul", _product(1)),
        "linear": ("matmul", _linear),
        "scaled_dot_product_attention": ("attention", _attention(5, 1)),
        "_scaled_dot_product_flash_attention": ("attention", _attention(4, 1)),
        "_scaled_dot_product_efficient_attention": ("attention", _attention(6, 1)),
        "_scaled_dot_product_cudnn_attention": ("attention", _attention(6, 1)),
        "_flash_attention_forward": ("attention", _attention(8, 2)),
        "_efficient_attention_forward": ("attention", _attention(None, 2)),
        "convolution": ("convolution", _convolution(3, 4, 5, 6)),
        "_convolution": ("convolution", _convolution(3, 4, 5, 6)),
        "conv1d": ("convolution", _convolution(3, 4, 5)),
        "conv2d": ("convolution", _convolution(3, 4, 5)),
        "conv3d": ("convolution", _convolution(3, 4, 5)),
        "cudnn_convolution": ("convolution", _convolution(3, 2, 4)),
        "miopen_convolution": ("convolution", _convolution(4, 3, 5)),
        "mkldnn_convolution": ("convolution", _convolution(4, 3, 5)),
        "_conv_depthwise2d": ("convolution", _convolution(4, 5, 6)),
        "conv_depthwise3d": ("convolution", _convolution(4, 5, 6)),
        "copy": ("elementwise", _move),
    }
)
_FORMULAS.update(
    dict.fromkeys(
        [
            "native_layer_norm",
            "layer_norm",
            "native_batch_norm",
            "batch_norm",
            "cudnn_batch_norm",
            "miopen_batch_norm",
            "_batch_norm_impl_index",
            "native_group_norm",
            "group_norm",
            "rms_norm",
            "_fused_rms_norm",
            "_softmax",
            "softmax",
            "_log_softmax",
        ],
        ("normalization", _per_item(5)),
    )
)
_FORMULAS.update(
    dict.fromkeys(
        [
            "add",
            "sub",
            "mul",
            "div",
            "pow",
            "exp",
            "log",
            "neg",
            "abs",
            "rsqrt",
            "sqrt",
            "relu",
            "gelu",
            "silu",
            "sigmoid",
            "tanh",
            "hardtanh",
            "leaky_relu",
            "elu",
            "clamp",
            "clamp_min",
            "where",
            "masked_fill",
            "eq",
            "ne",
            "lt",
            "gt",
            "le",
            "ge",
            "cos",
            "sin",
            "erf",
            "addcmul",
            "bitwise_and",
            "bitwise_or",
            "logical_not",
            "lerp",
            "threshold_backward",
        ],
        ("elementwise", _per_item(1)),
    )
)
_FORMULAS.update(
    dict.fromkeys(
        ["sum", "mean", "amax", "argmax", "cumsum", "any", "all"], ("elementwise", _reduction)
    )
)
