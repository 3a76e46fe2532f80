"""What all rules share: how certain a finding may be, and what it may gain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Confidence, Evidence, Finding, Threshold, Unknown

#: From a subject to what it finds. A rule that can't decide for want of data gives an `Unknown`.
Rule: TypeAlias = Callable[[Subject], Iterator[Finding | Unknown]]
#: From a subject and a finding of it to further ones that only make sense beside that.
Hint: TypeAlias = Callable[[Subject, Finding], Iterator[Finding]]

OURS = "measured with warpspan"

SURE_FROM = Threshold("inferences for a sure finding ≥ 20", 20, OURS)
POSSIBLE_FROM = Threshold("inferences for a possible finding ≥ 2", 2, OURS)


def confidence(subject: Subject, *, capped: bool = False) -> Confidence:
    """How certain a finding is by the number of inferences behind it.

    Args:
        subject: whose.
        capped: whether a value in it is estimated, or counts others' work, too.
    """
    few = subject.seen < SURE_FROM.value
    return Confidence.POSSIBLE if few or capped else Confidence.SURE


def gain(share: float) -> float | None:
    """How many times faster it is without a part of its time (Amdahl); None for all of it."""
    return 1 / (1 - share) if 0 <= share < 1 else None


def finding(
    subject: Subject,
    cause: Cause,
    *thresholds: Threshold,
    what: str,
    advice: str,
    check: str,
    evidence: Mapping[str, Evidence | None],
    time_s: float | None = None,
    share: float | None = None,
    ceiling_gain: float | None = None,
    amdahl: bool = True,
    capped: bool = False,
    strong: bool = False,
) -> Finding:
    """A finding; what is None in the evidence was not measured and is left out.

    Args:
        subject: whose.
        cause: its id.
        thresholds: the numbers that it was compared with.
        what: what happens, a sentence.
        advice: what to do, a sentence.
        check: a command or a query that shows whether it helped.
        evidence: measured values.
        time_s: what it costs.
        share: that over the time it is compared with.
        ceiling_gain: None for Amdahl's of the share, or for one that is not known.
        amdahl: whether the time would be gone without the cause.
        capped: whether it is only possible, however many inferences there are.
        strong: whether it passed the stronger one of two thresholds.
    """
    if ceiling_gain is None and amdahl and share is not None:
        ceiling_gain = gain(share)
    return Finding(
        id=cause,
        confidence=confidence(subject, capped=capped),
        strong=strong,
        time_s=time_s,
        share=share,
        ceiling_gain=ceiling_gain,
        evidence={name: value for name, value in evidence.items() if value is not None},
        thresholds=thresholds,
        what=what,
        advice=advice,
        check=check,
    )


def device_wide(subject: Subject) -> bool:
    """Whether counters of the device may hold the work of others, or are estimated."""
    return any(
        inference.usage is not None
        and (
            bool(inference.usage.estimated)
            or ((inference.usage.sm_scope or "device") == "device" and _shares(subject))
        )
        for inference in subject.inferences
    )


def _shares(subject: Subject) -> bool:
    return any((one.timing.concurrency or 1) > 1 for one in subject.inferences) or any(
        sample.shared for sample in subject.observation.samples
    )
