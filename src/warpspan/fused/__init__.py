"""Fused inference kernels in Triton, one operation a file, and `apply` to put them into a model.

Each file has the kernel, its launcher, `reference()` in plain torch and `cost()` in bytes and
FLOPs, and can be used alone: it imports torch and triton only.
"""

from __future__ import annotations

try:
    import triton  # noqa: F401
except ImportError:
    raise ImportError(
        "warpspan.fused needs Triton, which comes with the CUDA and ROCm builds of torch; "
        "elsewhere: pip install triton"
    ) from None

from .add_layer_norm import add_layer_norm
from .add_rms_norm import add_rms_norm, rms_norm
from .bias_gelu import bias_gelu
from .decode_attention import decode_attention, paged_decode_attention
from .decoder_block import decoder_block
from .rope import rope
from .softmax import softmax
from .swap import apply
from .swiglu import swiglu
from .top_k_softmax import top_k_softmax
from .w8a16_linear import w8a16_linear

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
