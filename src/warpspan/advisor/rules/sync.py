"""The host waits for the device, and the device then waits for the host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from warpspan.advisor.ledger import Idle
from warpspan.advisor.rule import finding
from warpspan.advisor.rules.launch import HOW
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records.units import rate, seconds, share

IMPACT = Threshold("idle time in and after waits over the wall time > 5%", 0.05, "gpu-idle")
EXPLAINED = Threshold("that over the idle time > 50%", 0.50, "gpu-idle, nsys-ai")


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """A wait counts only where the device idles: while it works, the host may as well wait."""
    if not subject.on_gpu or not subject.inferences:
        return
    if subject.is_traced:
        yield from _by_kernels(subject)
    elif not subject.observation.traces:
        yield from _fact(subject)


def _by_kernels(subject: Subject) -> Iterator[Finding]:
    sync_s = subject.idle_s(Idle.SYNC)
    if not sync_s:
        return
    reasons = (Idle.LAUNCH, Idle.SYNC, Idle.BETWEEN_STEPS, Idle.REQUEST_WAIT)
    idle_s = sum(subject.idle_s(reason) or 0.0 for reason in reasons)
    part = sync_s / subject.demand_s
    if part <= IMPACT.value or sync_s / idle_s <= EXPLAINED.value:
        return
    waits = [wait for one in subject.traced for wait in one.waits]
    count = sum(wait.total for wait in waits)
    longest = max(waits, key=lambda wait: (wait.time_s, wait.call), default=None)
    frame = None if longest is None else longest.frame
    call = None if longest is None else longest.call
    per_inference = count / len(subject.inferences)
    yield finding(
        subject,
        Cause.SYNC,
        IMPACT,
        EXPLAINED,
        what=(
            f"The device idles {share(part)} of the time because the host waits for it "
            f"({rate(per_inference)} waits per inference"
            + (f", longest in {frame}" if frame else f", longest in {call}" if call else "")
            + ") and launches the next work only then."
        ),
        advice=(
            "Keep the value on the device (no .item(), .cpu(), bool() or print of a tensor inside "
            "the loop), or read it once at the end."
        ),
        check="Record the same trace again: waits per inference and idle time must fall.",
        evidence={
            "idle_in_and_after_waits_s": sync_s,
            "share_of_idle": sync_s / idle_s,
            "waits_per_inference": per_inference,
            "call": call,
            "frame": frame,
        },
        time_s=sync_s,
        share=part,
        capped=any(part.line.exaggerated for part in subject.parts),
    )


def _fact(subject: Subject) -> Iterator[Unknown]:
    """Without kernels it is not known whether the device idled while the host waited."""
    stalled_s = subject.total(lambda one: None if one.syncs is None else one.syncs.stalled_s)
    if not stalled_s or stalled_s <= IMPACT.value * subject.wall_s:
        return
    count = subject.total(lambda one: None if one.syncs is None else one.syncs.total) or 0
    places = Counter[str]()
    for one in subject.inferences:
        for place in () if one.syncs is None else one.syncs.places:
            name = f"{place.kind} in {place.function} ({place.file}:{place.line})"
            places[name] += place.stalled_s  # type: ignore[assignment]
    where = f", most at {places.most_common(1)[0][0]}" if places else ""
    yield Unknown(
        Cause.SYNC,
        f"whether the device was idle while the host waited for it: {rate(count)} waits, "
        f"{seconds(stalled_s)}{where}",
        HOW,
    )
