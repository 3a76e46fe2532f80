"""Inferences beside each other slow each other down without more of them getting done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from warpspan.advisor.fit import Fit, fit, size_of
from warpspan.advisor.rule import OURS, finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records import Inference
from warpspan.records.units import digits

EACH = Threshold("inferences at each of two levels of concurrency ≥ 20", 20, OURS)
SLOWER = Threshold("time of the same work at the higher level ≥ 1.5 times", 1.5, OURS)
THROUGHPUT = Threshold("throughput at the higher level ≤ 1.2 times", 1.2, OURS)
IMPACT = Threshold("time lost to others over the time of all inferences ≥ 10%", 0.10, OURS)


class _Level(NamedTuple):
    """Inferences with about the same number of others beside them.

    Args:
        beside: their mean concurrency.
        slowdown: median of their times over those of the same work with least company.
        total: how many.
    """

    beside: float
    slowdown: float
    total: int


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """Compares the lowest and the highest level that have enough inferences."""
    held = [
        one
        for one in subject.inferences
        if one.timing.concurrency is not None and one.error_type is None
    ]
    if not held or max(one.timing.concurrency or 1 for one in held) < 2:
        return
    groups: defaultdict[int, list[Inference]] = defaultdict(list)
    for one in held:
        groups[(one.timing.concurrency or 1).bit_length()].append(one)
    levels = [groups[key] for key in sorted(groups) if len(groups[key]) >= EACH.value]
    if len(levels) < 2:
        if len(held) >= EACH.value:
            yield Unknown(
                Cause.CONTENTION,
                "the same work with less company: 20 inferences at each of two levels of concurrency",
                "send some requests one at a time, and report again",
            )
        return
    line = fit(levels[0])
    expected = _expected(levels[0], line)
    low, high = _level(levels[0], line, expected), _level(levels[-1], line, expected)
    slower = high.slowdown / low.slowdown
    throughput = high.beside / low.beside / slower
    alone_s = sum(_alone(one, line, expected) for one in held)
    all_s = sum(one.duration_s for one in held)
    part = max(1 - alone_s * low.slowdown / all_s, 0.0)
    if slower < SLOWER.value or throughput > THROUGHPUT.value or part < IMPACT.value:
        return
    yield finding(
        subject,
        Cause.CONTENTION,
        EACH,
        SLOWER,
        THROUGHPUT,
        IMPACT,
        what=_what(subject, low, high, slower, throughput),
        advice=_advice(subject, low),
        check="warpspan compare BEFORE AFTER: duration must fall, and the rate must not.",
        evidence={
            "low_concurrency": low.beside,
            "high_concurrency": high.beside,
            "time_ratio": slower,
            "throughput_ratio": throughput,
            "median_alone_s": median(one.duration_s for one in levels[0]),
            "median_together_s": median(one.duration_s for one in levels[-1]),
            "waiting_for_a_core_share": _starved(levels[-1]),
        },
        time_s=part * subject.demand_s,
        share=part,
    )


def _expected(held: list[Inference], line: Fit | None) -> float | None:
    """The time of work whose size does not matter or is not known."""
    return None if line is not None else median(one.duration_s for one in held)


def _alone(inference: Inference, line: Fit | None, expected: float | None) -> float:
    if line is not None:
        size = size_of(inference, line.unit)
        return line.time_s(line.middle if size is None else size)
    return expected or 0.0


def _level(held: list[Inference], line: Fit | None, expected: float | None) -> _Level:
    ratios = [one.duration_s / (_alone(one, line, expected) or 1.0) for one in held]
    beside = sum(one.timing.concurrency or 1 for one in held) / len(held)
    return _Level(beside, median(ratios) or 1.0, len(held))


def _starved(held: list[Inference]) -> float | None:
    """Share of their time in which the calling threads had no core and waited for nothing known."""
    known = [one for one in held if one.timing.cpu_time_s is not None]
    all_s = sum(one.duration_s for one in known)
    if not all_s:
        return None
    working_s = sum(one.timing.cpu_time_s or 0.0 for one in known)
    waits_s = sum((one.syncs.stalled_s or 0.0) if one.syncs else 0.0 for one in known)
    return max(1 - (working_s + waits_s) / all_s, 0.0)


def _what(subject: Subject, low: _Level, high: _Level, slower: float, throughput: float) -> str:
    where = "the device" if subject.on_gpu else "the processor's cores"
    return (
        f"Inferences compete for {where}: with {digits(high.beside)} at once instead of "
        f"{digits(low.beside)} the same work takes {digits(slower)} times as long, and "
        f"{digits(throughput)} times as much gets done."
    )


def _advice(subject: Subject, low: _Level) -> str:
    few = max(round(low.beside), 1)
    if subject.on_gpu:
        return (
            f"Let at most {few} run at once (a semaphore around the model), and put the requests "
            "that wait into one batch."
        )
    return (
        f"Let at most {few} run at once (a semaphore around the model) and put the requests that "
        "wait into one batch; or give each its own cores: torch.set_num_threads(cores // workers)."
    )
