"""The device waits for the host's next launch: too little work per kernel, or too slow a host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from warpspan.advisor.ledger import Idle
from warpspan.advisor.rule import OURS, finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records import Inference
from warpspan.records.kernels import DeviceWork
from warpspan.records.units import rate, seconds, share

_NVIDIA = "NVIDIA's host-bound analysis for TensorRT-LLM"
IDLE_SHARE = Threshold("idle share of the device time > 30%", 0.30, _NVIDIA)
IDLE_SHARE_DECODE = Threshold("idle share of the device time in decoding > 15%", 0.15, _NVIDIA)
IMPACT = Threshold("launch gaps over the wall time > 5%", 0.05, "gpu-idle")
EXPLAINED = Threshold("launch gaps over the idle time > 50%", 0.50, _NVIDIA)
SMALL_KERNEL = Threshold("mean kernel < 25 µs is small", 25e-6, _NVIDIA)
ONE_GAP = Threshold("longest gap over the idle time > 50%, in the driver, is no launch", 0.50, OURS)
LEAD = Threshold("host lead ≤ 5% of the device time is none", 0.05, OURS)
MOST = Threshold("inferences without a lead ≥ 50%", 0.50, OURS)
_FEW_GAPS = 3
USED = Threshold("SM use < 50%", 0.50, OURS)

HOW = (
    "record a few inferences with torch.profiler (activities=[CPU, CUDA]), export_chrome_trace, "
    "then warpspan report TRACE"
)
_ADVICE = (
    'Capture the work in a CUDA graph (torch.compile(model, mode="reduce-overhead"), or '
    "torch.cuda.graph for fixed shapes), or put more requests into one batch."
)
_CHECK = "Record the same trace again: the busy share of the device must rise."


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """By kernels where they are known, else by how far the host ran ahead of the device."""
    if not subject.on_gpu or not subject.inferences:
        return
    if subject.is_traced:
        yield from _by_kernels(subject)
    elif subject.works:
        yield Unknown(
            Cause.LAUNCH,
            "the kernels of CUDA graphs",
            "record with torch.profiler of a newer torch or driver, which sees kernels in graphs",
        )
    elif subject.observation.traces:
        yield Unknown(Cause.LAUNCH, "kernels and their times", "record with ProfilerActivity.CUDA")
    else:
        yield from _by_lead(subject)


def _by_kernels(subject: Subject) -> Iterator[Finding | Unknown]:
    works = subject.works
    reasons = (Idle.LAUNCH, Idle.SYNC, Idle.BETWEEN_STEPS)
    launch_s = subject.idle_s(Idle.LAUNCH) or 0.0
    idle_s = sum(subject.idle_s(reason) or 0.0 for reason in reasons)
    inside_s = sum(work.idle_s or 0.0 for work in works)
    if not subject.inside_s or not idle_s:
        return
    decoding = subject.key[0] == "decode" or bool(subject.idle_s(Idle.BETWEEN_STEPS))
    limit = IDLE_SHARE_DECODE if decoding else IDLE_SHARE
    wall_s = subject.demand_s
    if not (
        inside_s / subject.inside_s > limit.value
        and launch_s / wall_s > IMPACT.value
        and launch_s / idle_s > EXPLAINED.value
    ):
        return
    launches = sum(work.launch_count for work in works)
    kernels = sum(work.kernel_count for work in works)
    mean_s = sum(work.kernel_time_s for work in works) / kernels if kernels else None
    if _initializes(works):
        yield Unknown(
            Cause.LAUNCH,
            "a warm inference: most of the idle time is one call of the driver, as loading of "
            "kernels, tuning and allocation make them",
            "record after some inferences, with torch.profiler.schedule(wait=5, warmup=2, active=3)",
        )
        return
    part = launch_s / wall_s
    count = len(subject.inferences)
    small = mean_s is not None and mean_s < SMALL_KERNEL.value
    what = (
        f"The device is idle {share(inside_s / subject.inside_s)} of the time inside an inference and "
        f"waits for the next launch: {rate(kernels / count)} kernels per inference"
        + ("" if mean_s is None else f" of {seconds(mean_s)} on average")
        + "."
    )
    yield finding(
        subject,
        Cause.LAUNCH,
        limit,
        IMPACT,
        EXPLAINED,
        ONE_GAP,
        SMALL_KERNEL,
        what=what,
        advice=_ADVICE,
        check=_CHECK,
        evidence={
            "launch_gap_s": launch_s,
            "idle_share_of_device_time": inside_s / subject.inside_s,
            "share_of_idle": launch_s / idle_s,
            "kernels_per_inference": kernels / count,
            "launches_per_inference": launches / count,
            "mean_kernel_s": mean_s,
            "small_kernels": small,
            "profiler_slows_host": True if _exaggerated(subject) else None,
        },
        time_s=launch_s,
        share=part,
        capped=_exaggerated(subject),
    )


def _initializes(works: Sequence[DeviceWork]) -> bool:
    """Whether single calls of the driver hold most of the idle time, and not the launches."""
    hosts = [work.host for work in works if work.host is not None]
    idle_s = sum(sum(host) for host in hosts)
    driver_s = sum(host.driver_s for host in hosts)
    longest_s = sum(work.gaps[0].duration_s for work in works if len(work.gaps) > _FEW_GAPS)
    return min(driver_s, longest_s) > ONE_GAP.value * idle_s > 0


def _exaggerated(subject: Subject) -> bool:
    return any(part.line.exaggerated for part in subject.parts)


def _by_lead(subject: Subject) -> Iterator[Finding | Unknown]:
    """The host gave the device no work in advance, and did not wait for it either."""
    timed = [one for one in subject.inferences if one.timing.device_time_s]
    if not timed:
        yield Unknown(Cause.LAUNCH, "device times", HOW)
        return
    leads = [lead for lead in map(_lead, timed) if lead is not None]
    if not leads:
        yield Unknown(Cause.LAUNCH, "how far the host runs ahead of the device", HOW)
        return
    without = sum(lead <= LEAD.value for lead in leads) / len(leads)
    if without < MOST.value or _waits(subject):
        return
    used = subject.middle(_use)
    if used is None:
        yield Unknown(Cause.LAUNCH, "kernels, or how busy the multiprocessors are", HOW)
        return
    if used >= USED.value:
        return
    device_s = sum(one.timing.device_time_s or 0.0 for one in timed)
    idle_s = device_s * (1 - used)
    part = min(idle_s / subject.demand_s, 1.0) if subject.demand_s else 0.0
    if part <= IMPACT.value:
        return
    yield finding(
        subject,
        Cause.LAUNCH,
        LEAD,
        MOST,
        USED,
        IMPACT,
        what=(
            f"The device ends together with the host in {share(without)} of the inferences, nothing "
            f"waits for it, and it is in use {share(used)} of that time: it seems to wait for "
            "launches."
        ),
        advice=f"To be sure, {HOW}. {_ADVICE}",
        check=_CHECK,
        evidence={
            "inferences_without_lead": without,
            "median_use": used,
            "idle_upper_bound_s": idle_s,
        },
        time_s=idle_s,
        share=part,
        capped=True,
    )


def _lead(inference: Inference) -> float | None:
    """How long the device goes on after the host's return, over the device time."""
    timing = inference.timing
    if timing.queue_time_s is None or not timing.device_time_s:
        return None
    lead_s = timing.queue_time_s + timing.device_time_s - inference.duration_s
    return lead_s / timing.device_time_s


def _use(inference: Inference) -> float | None:
    usage = inference.usage
    if usage is None:
        return None
    return usage.sm_utilization if usage.sm_utilization is not None else usage.utilization


def _waits(subject: Subject) -> bool:
    stalled_s = subject.total(lambda one: None if one.syncs is None else one.syncs.stalled_s)
    return bool(stalled_s) and (stalled_s or 0.0) > IMPACT.value * subject.wall_s
