"""Memory of the device: too little, in pieces, or far too much."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from warpspan.advisor.rule import OURS, finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records import Inference
from warpspan.records.units import plural, share, size

CAPACITY = Threshold("highest peak over the card's memory ≥ 92%", 0.92, "TraceML")
CAPACITY_STRONG = Threshold("the same ≥ 97%", 0.97, "TraceML")
FAILED = Threshold("out of memory or allocation retries ≥ 1", 1, OURS)
RESERVED = Threshold("reserved over allocated memory ≥ 2", 2.0, "TraceML")
RESERVED_CARD = Threshold("reserved over the card's memory ≥ 30%", 0.30, "TraceML")
UNUSED = Threshold("99th percentile of the peak over the card's memory ≤ 25%", 0.25, OURS)
QUIET = Threshold("SM use, or busy time, ≤ 50%", 0.50, OURS)
ENOUGH = Threshold("inferences ≥ 20", 20, OURS)

_GIB = 1 << 30
_MIG_80 = ((10, "1g.10gb"), (20, "1g.20gb"), (40, "3g.40gb"))
_MIG_40 = ((5, "1g.5gb"), (10, "2g.10gb"), (20, "3g.20gb"))


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """Capacity, fragmentation and size of the card, by the allocator's figures."""
    everything = (*subject.warm_up, *subject.inferences)
    yield from _capacity(subject, everything)
    yield from _fragmentation(subject, everything)
    yield from _oversized(subject)


def _capacity(subject: Subject, everything: tuple[Inference, ...]) -> Iterator[Finding]:
    failed = sum(one.out_of_memory for one in everything)
    retries = sum((one.memory.allocation_retries or 0) for one in everything if one.memory)
    shares = [part for one in everything if (part := _peak_share(one)) is not None]
    highest = max(shares, default=None)
    full = highest is not None and highest >= CAPACITY.value
    if not (failed or full or (retries and subject.on_gpu)):
        return
    parts = [
        *([f"{plural(failed, 'inference')} ran out of memory"] if failed else []),
        *([f"the allocator had to free its cache and retry {retries} times"] if retries else []),
        *([f"the peak is {share(highest)} of the card"] if highest is not None else []),
    ]
    said = ", ".join(parts)
    yield finding(
        subject,
        Cause.MEMORY_CAPACITY,
        CAPACITY,
        CAPACITY_STRONG,
        FAILED,
        what=f"{said[0].upper()}{said[1:]}.",
        advice=(
            "Make weights, batch or KV cache smaller (16-bit or 8-bit weights, a bound for the "
            "batch's tokens), or take a card with more memory."
        ),
        check="warpspan report: the memory's maximum must fall, and no inference fail.",
        evidence={
            "out_of_memory": failed,
            "allocation_retries": retries,
            "peak_share": highest,
        },
        strong=bool(failed) or (highest or 0.0) >= CAPACITY_STRONG.value,
    )


def _peak_share(inference: Inference) -> float | None:
    memory = inference.memory
    if memory is None or memory.peak_bytes is None or not memory.limit_bytes:
        return None
    return memory.peak_bytes / memory.limit_bytes


def _fragmentation(subject: Subject, everything: tuple[Inference, ...]) -> Iterator[Finding]:
    def reserved(one: Inference) -> tuple[float, float] | None:
        memory = one.memory
        if memory is None or not memory.reserved_bytes or not memory.limit_bytes:
            return None
        used = max(memory.peak_bytes or 0, memory.allocated_end_bytes or 0)
        return (
            (memory.reserved_bytes / used, memory.reserved_bytes / memory.limit_bytes)
            if used
            else None
        )

    known = [one for one in map(reserved, everything) if one is not None]
    if not known:
        return
    over_used, of_card = known[-1]
    if over_used < RESERVED.value or of_card < RESERVED_CARD.value:
        return
    yield finding(
        subject,
        Cause.FRAGMENTATION,
        RESERVED,
        RESERVED_CARD,
        what=(
            f"The allocator holds {over_used:.1f} times the memory that is in use, {share(of_card)} "
            "of the card."
        ),
        advice=(
            "Set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, and pad inputs to a few fixed "
            "sizes."
        ),
        check="warpspan report: reserved over allocated memory must fall.",
        evidence={"reserved_over_used": over_used, "reserved_share_of_card": of_card},
    )


def _oversized(subject: Subject) -> Iterator[Finding]:
    shares = sorted(part for one in subject.inferences if (part := _peak_share(one)) is not None)
    if not subject.on_gpu or len(shares) < ENOUGH.value:
        return
    p99 = shares[ceil(0.99 * len(shares)) - 1]
    used = subject.middle(lambda one: one.usage.sm_utilization if one.usage else None)
    busy_s = subject.busy_s
    if used is None and busy_s is not None and subject.observed_s:
        used = busy_s / subject.observed_s
    # Where inferences queue, the card's speed is needed, if not its memory.
    if p99 > UNUSED.value or used is None or used > QUIET.value or _queues(subject):
        return
    limit = max(one.memory.limit_bytes or 0 for one in subject.inferences if one.memory)
    need_gib = p99 * limit / _GIB
    profile = _profile(limit / _GIB, need_gib)
    where = f"its MIG profile {profile}" if profile else f"a card of {ceil(2 * need_gib)} GiB"
    yield finding(
        subject,
        Cause.OVERSIZED,
        UNUSED,
        QUIET,
        what=(
            f"99% of the inferences need at most {size(round(p99 * limit))} ({share(p99)} of the "
            f"card) and {share(used)} of its time or multiprocessors."
        ),
        advice=f"{where[0].upper()}{where[1:]} would do, or several models on this one.",
        check="warpspan compare BEFORE AFTER: duration must hold on the smaller one.",
        evidence={"peak_p99_share": p99, "use": used, "mig_profile": profile},
    )


def _queues(subject: Subject) -> bool:
    queued = [one.timing.queue_time_s for one in subject.inferences if one.timing.queue_time_s]
    device_s = subject.total(lambda one: one.timing.device_time_s)
    return bool(device_s) and sum(queued) > 0.2 * (device_s or 0.0)


def _profile(card_gib: float, need_gib: float) -> str | None:
    """The smallest MIG profile that holds it, of cards that have any."""
    profiles = _MIG_80 if 70 <= card_gib <= 100 else _MIG_40 if 35 <= card_gib <= 48 else ()
    return next((name for gib, name in profiles if need_gib <= 0.8 * gib), None)
