"""The public name of the fused kernels and of `apply`, which puts them into a model.

`warpspan.fused.rope` and so on are the modules of `warpspan.kernels` themselves, with the kernel,
`reference()` and `cost()` of each operation.
"""

from __future__ import annotations

import importlib
import sys

from warpspan.kernels import NO_TRITON

try:
    import triton  # noqa: F401
except ImportError:
    raise ImportError(NO_TRITON) from None

from warpspan.kernels import swap  # noqa: F401
from warpspan.kernels.add_layer_norm import add_layer_norm
from warpspan.kernels.add_rms_norm import add_rms_norm, rms_norm
from warpspan.kernels.bias_gelu import bias_gelu
from warpspan.kernels.decode_attention import decode_attention, paged_decode_attention
from warpspan.kernels.decoder_block import decoder_block
from warpspan.kernels.rope import rope
from warpspan.kernels.softmax import softmax
from warpspan.kernels.swap import apply
from warpspan.kernels.swiglu import swiglu
from warpspan.kernels.top_k_softmax import top_k_softmax
from warpspan.kernels.w8a16_linear import w8a16_linear

__all__ = [
    "add_layer_norm",
    "add_rms_norm",
    "apply",
    "bias_gelu",
    "decode_attention",
    "decoder_block",
    "paged_decode_attention",
    "rms_norm",
    "rope",
    "softmax",
    "swiglu",
    "top_k_softmax",
    "w8a16_linear",
]

# The same module objects under both names: an operation is registered with torch once.
for _module in (
    "add_layer_norm",
    "add_rms_norm",
    "bias_gelu",
    "decode_attention",
    "decoder_block",
    "rope",
    "softmax",
    "swap",
    "swiglu",
    "top_k_softmax",
    "w8a16_linear",
):
    sys.modules[f"{__name__}.{_module}"] = importlib.import_module(f"warpspan.kernels.{_module}")
