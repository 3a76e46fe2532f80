"""Temperature, top-k and softmax for sampling: sizes, inputs and other providers."""

from __future__ import annotations

from typing import Any

import torch

from warpspan.kernels.bench.op import Arguments, Dims, Op, missing, normal
from warpspan.kernels.top_k_softmax import cost, reference, top_k_softmax


def build(dims: Dims, dtype: torch.dtype, generator: torch.Generator) -> Arguments:
    logits = normal(dims["M"], dims["V"], dtype=dtype, generator=generator, scale=3.0)
    return logits, dims["k"], 0.7


def comparable(outputs: Any, arguments: Arguments) -> Any:
    """Probabilities, and the logits behind the ids: of equal logits either id is right.

    Raises:
        ValueError: an id occurs twice in a row, or is none of the vocabulary.
    """
    probabilities, ids = outputs
    logits = arguments[0]
    if ids.numel():
        if int(ids.min()) < 0 or int(ids.max()) >= logits.shape[-1]:
            raise ValueError("an id lies outside the vocabulary")
        ordered = ids.sort(dim=-1).values
        if bool((ordered[..., 1:] == ordered[..., :-1]).any()):
            raise ValueError("an id occurs twice in a row")
    return probabilities, logits.gather(-1, ids)


OPS = (
    Op(
        name="top_k_softmax",
        fused=top_k_softmax,
        reference=reference,
        cost=cost,
        build=build,
        timed=tuple({"M": m, "V": 128256, "k": 50} for m in (1, 8, 64, 256)),
        checked=(
            {"M": 2, "V": 1, "k": 1},
            {"M": 3, "V": 7, "k": 7},
            {"M": 2, "V": 4097, "k": 50},
            {"M": 2, "V": 8193, "k": 20},
            {"M": 0, "V": 64, "k": 5},
        ),
        providers={
            "eager-native": missing("eager calls torch's own topk and softmax already"),
            "liger": missing("liger has no sampling kernels"),
            "flashinfer": missing("flashinfer draws the sample in the same kernel"),
        },
        comparable=comparable,
    ),
)
