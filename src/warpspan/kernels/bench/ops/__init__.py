"""One operation a file, under the name of its kernel; loaded when asked for, as Triton is then."""

from __future__ import annotations

import importlib

from warpspan.kernels.bench.op import Op

# Operation -> file: some files hold two forms of one operation.
FILES = {
    "add_rms_norm": "add_rms_norm",
    "add_layer_norm": "add_layer_norm",
    "swiglu": "swiglu",
    "rope": "rope",
    "bias_gelu": "bias_gelu",
    "bias_gelu_tanh": "bias_gelu",
    "softmax": "softmax",
    "top_k_softmax": "top_k_softmax",
    "w8a16_linear": "w8a16_linear",
    "decode_attention": "decode_attention",
    "paged_decode_attention": "decode_attention",
    "decoder_block": "decoder_block",
}


def load(name: str) -> Op:
    """The operation of that name.

    Raises:
        KeyError: there is none.
    """
    module = importlib.import_module(f"warpspan.kernels.bench.ops.{FILES[name]}")
    operations: tuple[Op, ...] = module.OPS
    return next(op for op in operations if op.name == name)
