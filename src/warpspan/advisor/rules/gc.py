"""Python's garbage collector runs inside inferences."""

from __future__ import annotations

from collections.abc import Iterator

from warpspan.advisor.rule import finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records.units import rate, seconds, share

IMPACT = Threshold("garbage collection over the duration ≥ 5%", 0.05, "uncalibrated")


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """By the times of collections inside inferences."""
    gc_s = subject.total(lambda one: one.timing.gc_time_s)
    durations_s = subject.total(lambda one: one.duration_s)
    if not gc_s or not durations_s or gc_s / durations_s < IMPACT.value:
        return
    part = min(gc_s / durations_s, 1.0)
    runs = (subject.total(lambda one: one.timing.gc_count) or 0) / len(subject.inferences)
    yield finding(
        subject,
        Cause.GC,
        IMPACT,
        what=(
            f"Garbage collection takes {share(part)} of the inferences' time: {seconds(gc_s)}, "
            f"{rate(runs)} collections per inference."
        ),
        advice=(
            "After loading the model call gc.collect() and gc.freeze(); then collect between "
            "requests instead of inside them (gc.disable(), gc.collect() when idle)."
        ),
        check="warpspan compare BEFORE AFTER: pytorch.host.gc.time must fall.",
        evidence={"gc_s": gc_s, "collections_per_inference": runs},
        time_s=part * (subject.demand_s or subject.wall_s),
        share=part,
    )
