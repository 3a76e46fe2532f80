"""What may help against a finding: 16-bit weights, fused kernels. Never said alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

from warpspan.advisor.rule import OURS, finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold
from warpspan.records.units import rate, share

FP32 = Threshold("inferences with float32 weights ≥ 50%", 0.50, "XProf")
KERNELS = Threshold("kernels per inference ≥ 20", 20, OURS)
FITTING = Threshold("kernel time in operators that fused kernels replace ≥ 2%", 0.02, OURS)

_PRECISION_UNDER = {Cause.COMPUTE, Cause.MEMORY_BANDWIDTH, Cause.MEMORY_CAPACITY}
_FUSION_UNDER = {Cause.LAUNCH, Cause.MEMORY_BANDWIDTH}

#: Operators by the row of `warpspan bench` whose fused kernel replaces them.
FUSED = {
    "add_layer_norm": re.compile(r"layer_norm"),
    "add_rms_norm": re.compile(r"rms_norm|aten::rsqrt"),
    "bias_gelu": re.compile(r"gelu"),
    "swiglu": re.compile(r"silu"),
    "softmax": re.compile(r"aten::_?softmax"),
    "top_k_softmax": re.compile(r"aten::topk"),
    "rope": re.compile(r"aten::(?:neg|cat)$"),
}


def precision(subject: Subject, under: Finding) -> Iterator[Finding]:
    """Weights in 32 bits, where arithmetic, bandwidth or memory is short."""
    if under.id not in _PRECISION_UNDER or not subject.on_gpu:
        return
    dtypes = [one.model.dtype for one in subject.inferences if one.model.dtype]
    plain = [dtype for dtype in dtypes if dtype == "float32"]
    if not dtypes or len(plain) < FP32.value * len(dtypes):
        return
    yield finding(
        subject,
        Cause.PRECISION,
        FP32,
        what="The weights are float32: twice the bytes of 16 bits, and no tensor cores by default.",
        advice=(
            "Load the model in 16 bits (torch_dtype=torch.bfloat16) and compare its answers, or "
            'torch.set_float32_matmul_precision("high") for the arithmetic alone.'
        ),
        check="warpspan compare BEFORE AFTER: device time and memory must fall.",
        evidence={"weights": "float32", "under": under.id.value},
        capped=True,
    )


def fusion(subject: Subject, under: Finding) -> Iterator[Finding]:
    """Many kernels, some of which fused ones replace."""
    works = subject.works
    if under.id not in _FUSION_UNDER or not works:
        return
    per_inference = sum(work.kernel_count for work in works) / len(subject.inferences)
    if per_inference < KERNELS.value:
        return
    all_s = sum(work.kernel_time_s for work in works)
    rows = []
    for row, operators in FUSED.items():
        time_s = sum(
            kernel.time_s
            for work in works
            for kernel in work.kernels
            if kernel.operator and operators.search(kernel.operator)
        )
        if all_s and time_s >= FITTING.value * all_s:
            rows.append((row, time_s / all_s))
    rows.sort(key=lambda row: -row[1])
    if not rows:
        return
    listed = ", ".join(f"{row} ({share(part)} of the kernel time)" for row, part in rows)
    yield finding(
        subject,
        Cause.FUSION,
        KERNELS,
        FITTING,
        what=(
            f"{rate(per_inference)} kernels run per inference; fused ones of warpspan replace some: "
            f"{listed}."
        ),
        advice="warpspan.fused.apply(model) puts in those that fit this model.",
        check=f"warpspan bench fused --op {rows[0][0]}: the row of this device and shape has the gain.",
        evidence={
            "kernels_per_inference": per_inference,
            "fused": [row for row, _ in rows],
            "under": under.id.value,
        },
        capped=True,
    )
