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


_BESIDE = 1.5


class _Beside(NamedTuple):
    """An inference, and how many ran during it on average."""

    inference: Inference
    beside: float


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
    """Compares the lowest and the highest level of concurrency that have enough inferences."""
    groups: defaultdict[int, list[_Beside]] = defaultdict(list)
    for one, beside in zip(subject.inferences, subject.company, strict=True):
        if one.error_type is None:
            groups[round(beside).bit_length()].append(_Beside(one, beside))
    levels = [groups[key] for key in sorted(groups) if len(groups[key]) >= EACH.value]
    if len(levels) < 2:
        if levels and max(subject.company) >= _BESIDE:
            yield Unknown(
                Cause.CONTENTION,
                "the same work with less company: 20 inferences at each of two levels of concurrency",
                "send some requests one at a time, and report again",
            )
        return
    everything = [one for level in levels for one in level]
    line = fit([one.inference for one in levels[0]], [one.beside for one in levels[0]])
    expected_s = None if line is not None else median(map(_time, levels[0]))
    low, high = _level(levels[0], line, expected_s), _level(levels[-1], line, expected_s)
    slower = high.slowdown / low.slowdown
    throughput = high.beside / low.beside / slower
    alone_s = sum(_alone(one, line, expected_s) for one in everything)
    all_s = sum(map(_time, everything))
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
            "median_alone_s": median(map(_time, levels[0])),
            "median_together_s": median(map(_time, levels[-1])),
            "waiting_for_a_core_share": _starved(levels[-1]),
        },
        time_s=part * subject.demand_s,
        share=part,
    )


def _time(one: _Beside) -> float:
    return one.inference.timing.device_time_s or one.inference.duration_s


def _alone(one: _Beside, line: Fit | None, expected_s: float | None) -> float:
    """What the same work takes with the least company."""
    if line is None:
        return expected_s or 0.0
    size = size_of(one.inference, line.unit)
    return line.time_s(line.middle if size is None else size)


def _level(held: list[_Beside], line: Fit | None, expected_s: float | None) -> _Level:
    ratios = [_time(one) / (_alone(one, line, expected_s) or 1.0) for one in held]
    beside = sum(one.beside for one in held) / len(held)
    return _Level(beside, median(ratios) or 1.0, len(held))


def _starved(held: list[_Beside]) -> float | None:
    """Share of their time in which the calling threads had no core and waited for nothing known."""
    known = [one.inference for one in held if one.inference.timing.cpu_time_s is not None]
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
    count = max(round(low.beside), 1)
    few = "one" if count == 1 else str(count)
    if subject.on_gpu:
        return (
            f"Let only {few} run at once (a semaphore around the model), and put the requests "
            "that wait into one batch."
        )
    return (
        f"Let only {few} run at once (a semaphore around the model): requests then wait before the "
        "model instead of inside it, and those that wait fit into one batch. Or give each its own "
        "cores: torch.set_num_threads(cores // workers)."
    )
