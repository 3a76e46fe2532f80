"""The device is idle because nobody asks for anything. That is no fault."""

from __future__ import annotations

from collections.abc import Iterator

from warpspan.advisor.ledger import Idle
from warpspan.advisor.rule import OURS, finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records.units import share

IMPACT = Threshold("time without an open request over the observed time ≥ 20%", 0.20, OURS)


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """By the spans of requests."""
    idle_s = subject.idle_s(Idle.NO_DEMAND)
    if not idle_s or not subject.observed_s:
        return
    part = idle_s / subject.observed_s
    if part < IMPACT.value:
        return
    yield finding(
        subject,
        Cause.NO_DEMAND,
        IMPACT,
        what=f"For {share(part)} of the time no request is open: there is room for more load.",
        advice="Nothing is to do for speed; fewer or smaller machines would cost less.",
        check="warpspan report under more load.",
        evidence={"no_demand_s": idle_s},
        time_s=idle_s,
        share=part,
        amdahl=False,
    )
