"""The device itself is the limit: its arithmetic, its memory bandwidth, or one of the two."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from warpspan.advisor.rule import OURS, device_wide, finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records import Inference
from warpspan.records.units import share

_PEAKS = "Nsight Compute and DCGM: practical peaks"
BUSY = Threshold("busy over the time with demand ≥ 80%", 0.80, _PEAKS)
TENSOR = Threshold("tensor cores' or arithmetic's share of their peak ≥ 50%", 0.50, _PEAKS)
NO_TENSOR = Threshold("tensor cores' share < 40%", 0.40, _PEAKS)
SM = Threshold("SM use ≥ 80%", 0.80, _PEAKS)
QUIET_DRAM = Threshold("memory bandwidth < 40%", 0.40, _PEAKS)
DRAM = Threshold("memory bandwidth ≥ 60%", 0.60, _PEAKS)
ACHIEVED = Threshold("bytes per second ≥ 70% of the peak", 0.70, _PEAKS)
COVERED = Threshold("kernel time with known shapes ≥ 50%", 0.50, OURS)
FILLED = Threshold("share of the device time in which it ran anything ≥ 80%", 0.80, OURS)
LEAD = Threshold("host lead ≥ 20% of the device time", 0.20, OURS)
_BESIDE = 1.5
ON_CORE = Threshold("calling thread on a core ≥ 50%", 0.50, OURS)


class _Use(NamedTuple):
    """How much of the device was in use while it was busy; None is: not known.

    Args:
        compute: of the arithmetic's peak.
        bandwidth: of the memory's peak.
        sm: of the multiprocessors.
        exact: whether compute and bandwidth are from shapes and kernels, not from counters.
    """

    compute: float | None = None
    bandwidth: float | None = None
    sm: float | None = None
    exact: bool = False


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """Busy nearly all of the time that anybody waits; then by what of it is in use."""
    busy_s = subject.busy_s
    if not busy_s or not subject.asked_s or not subject.inferences:
        return
    part = busy_s / subject.asked_s
    if part < BUSY.value:
        return
    if subject.on_gpu and not subject.is_traced and not _is_filled(subject):
        return  # what it ran inside its device time is not known; `launch` says so
    if not subject.on_gpu:
        on_core = _on_core(subject)
        if on_core is None:
            yield Unknown(
                Cause.DEVICE,
                "whether the processor worked: inferences in an event loop, or that change their "
                "thread, have no processor time",
                "run the model on one thread (asyncio.to_thread)",
            )
            return
        if on_core < ON_CORE.value and _alone(subject):
            yield Unknown(
                Cause.DEVICE,
                f"what the calling thread waited for: it was on a core for {share(on_core)} of the "
                "inferences' time, and slept or had none for the rest",
                "look at the load of the machine (uptime) and for waits inside the inference",
            )
            return
    use = _from_kernels(subject) if subject.is_traced else _from_counters(subject)
    cause = _cause(use)
    yield finding(
        subject,
        cause,
        *_THRESHOLDS[cause],
        what=_what(subject, cause, part, use),
        advice=_ADVICE[cause] if subject.on_gpu else _ADVICE_CPU,
        check="warpspan compare BEFORE AFTER: device time per item must fall.",
        evidence={
            "busy_share": part,
            "compute_use": use.compute,
            "memory_bandwidth_use": use.bandwidth,
            "sm_use": use.sm,
            "on_core_share": None if subject.on_gpu else _on_core(subject),
        },
        time_s=busy_s,
        share=min(part, 1.0),
        ceiling_gain=_ceiling(cause, use),
        amdahl=False,
        capped=subject.on_gpu and not subject.is_traced and device_wide(subject),
    )


_THRESHOLDS = {
    Cause.COMPUTE: (BUSY, TENSOR, SM, QUIET_DRAM),
    Cause.MEMORY_BANDWIDTH: (BUSY, DRAM, NO_TENSOR, ACHIEVED),
    Cause.DEVICE: (BUSY, FILLED, LEAD),
}
_ADVICE = {
    Cause.COMPUTE: (
        "Do less arithmetic: a lower precision with tensor cores (bfloat16, float8, int8), a smaller "
        "or pruned model, or a faster device."
    ),
    Cause.MEMORY_BANDWIDTH: (
        "Move fewer bytes: larger batches (weights are read once for all), smaller types for weights "
        "and KV cache, fused kernels."
    ),
    Cause.DEVICE: (
        "The device is well used. To go faster, make the work smaller (precision, model, tokens), or "
        "add devices; a trace with record_shapes=True tells arithmetic from memory bandwidth."
    ),
}
_ADVICE_CPU = (
    "The processor is well used. To go faster, make the work smaller (bfloat16 or int8, fewer "
    "tokens, a smaller model), or add cores or machines."
)


def _cause(use: _Use) -> Cause:
    compute, bandwidth, sm = use.compute, use.bandwidth, use.sm
    if use.exact:
        if compute is not None and compute >= TENSOR.value:
            return Cause.COMPUTE
        if bandwidth is not None and bandwidth >= ACHIEVED.value:
            return Cause.MEMORY_BANDWIDTH
        return Cause.DEVICE
    if compute is not None and compute >= TENSOR.value:
        return Cause.COMPUTE
    if bandwidth is None:
        return Cause.DEVICE
    if sm is not None and sm >= SM.value and bandwidth < QUIET_DRAM.value:
        return Cause.COMPUTE
    if bandwidth >= DRAM.value and (compute is not None and compute < NO_TENSOR.value):
        return Cause.MEMORY_BANDWIDTH
    return Cause.DEVICE


def _ceiling(cause: Cause, use: _Use) -> float | None:
    """What the device could do at most, over what it does; not known for the device as a whole."""
    used = {Cause.COMPUTE: use.compute, Cause.MEMORY_BANDWIDTH: use.bandwidth}.get(cause)
    return 1 / used if used else None


def _from_kernels(subject: Subject) -> _Use:
    rooflines = [(work.roofline, work.kernel_time_s) for work in subject.works if work.roofline]
    covered_s = sum(one.covered_share * time_s for one, time_s in rooflines)
    kernels_s = sum(work.kernel_time_s for work in subject.works)
    if not kernels_s or covered_s < COVERED.value * kernels_s:
        return _Use()
    compute = sum(one.flops_share * one.covered_share * time_s for one, time_s in rooflines)
    bandwidth = sum(one.bandwidth_used * one.covered_share * time_s for one, time_s in rooflines)
    return _Use(compute / covered_s, bandwidth / covered_s, exact=True)


def _from_counters(subject: Subject) -> _Use:
    def middle(name: str) -> float | None:
        return subject.middle(lambda one: _usage(one, name))

    return _Use(middle("tensor_utilization"), middle("dram_utilization"), middle("sm_utilization"))


def _usage(inference: Inference, name: str) -> float | None:
    value: float | None = getattr(inference.usage, name, None)
    return value


def _is_filled(subject: Subject) -> bool:
    """Whether the device ran something for nearly all of its device time."""
    for name in ("utilization", "sm_utilization"):
        used = subject.middle(lambda one, name=name: _usage(one, name))  # type: ignore[misc]
        if used is not None and used >= FILLED.value:
            return True
    leads = [
        timing.queue_time_s + timing.device_time_s - one.duration_s
        >= LEAD.value * timing.device_time_s
        for one in subject.inferences
        if (timing := one.timing).queue_time_s is not None and timing.device_time_s
    ]
    return bool(leads) and 2 * sum(leads) >= len(leads)


def _on_core(subject: Subject) -> float | None:
    known = [one for one in subject.inferences if one.timing.cpu_time_s is not None]
    all_s = sum(one.duration_s for one in known)
    return sum(one.timing.cpu_time_s or 0.0 for one in known) / all_s if all_s else None


def _alone(subject: Subject) -> bool:
    """Whether inferences had hardly any company, which makes them wait for a core."""
    return median(subject.company) < _BESIDE


def _what(subject: Subject, cause: Cause, part: float, use: _Use) -> str:
    who = "device" if subject.on_gpu else "processor"
    busy = f"The {who} is busy {share(part)} of the time that it is asked for anything"
    if cause == Cause.COMPUTE and use.compute is not None:
        return f"{busy}, with {share(use.compute)} of its arithmetic's peak."
    if cause == Cause.MEMORY_BANDWIDTH and use.bandwidth is not None:
        return f"{busy}, with {share(use.bandwidth)} of its memory's bandwidth."
    return f"{busy}."
