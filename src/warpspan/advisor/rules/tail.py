"""The slowest inferences take several times as long as usual: what they have more of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil
from statistics import median
from typing import NamedTuple

from warpspan.advisor.rule import OURS, finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records import Inference
from warpspan.records.units import digits, seconds

SPREAD = Threshold("99th percentile over the median of the duration ≥ 3", 3.0, OURS)
ENOUGH = Threshold("inferences ≥ 100", 100, OURS)
MORE = Threshold("factor over the median ≥ 1.5", 1.5, OURS)


class _Factor(NamedTuple):
    name: str
    value: Callable[[Inference], float | None]


_FACTORS = (
    _Factor("queue", lambda one: one.timing.queue_time_s),
    _Factor("concurrency", lambda one: one.timing.concurrency),
    _Factor("batch", lambda one: one.input.batch_size),
    _Factor("tokens", lambda one: one.input.sequence_length),
    _Factor("generated tokens", lambda one: _generated(one)),
    _Factor("garbage collection", lambda one: one.timing.gc_time_s),
    _Factor(
        "allocation retries", lambda one: one.memory.allocation_retries if one.memory else None
    ),
)


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """The slowest 1 % against the median, cold starts included."""
    everything = sorted((*subject.warm_up, *subject.inferences), key=lambda one: one.duration_s)
    if len(everything) < ENOUGH.value:
        return
    slow = everything[ceil(0.99 * len(everything)) - 1 :]
    middle_s = median(one.duration_s for one in everything)
    ratio = slow[0].duration_s / middle_s if middle_s else 0.0
    if ratio < SPREAD.value:
        return
    more = [
        f"{factor.name} {digits(times)} times the median"
        for factor in _FACTORS
        if (times := _more(factor, slow, everything)) is not None and times >= MORE.value
    ]
    cold = {*subject.warm_up}
    if 2 * sum(one in cold for one in slow) >= len(slow):
        more.append("cold start")
    lost_s = sum(one.duration_s - middle_s for one in slow)
    part = lost_s / sum(one.duration_s for one in everything)
    why = f" They have more of: {', '.join(more)}." if more else ""
    yield finding(
        subject,
        Cause.TAIL,
        SPREAD,
        ENOUGH,
        MORE,
        what=(
            f"The slowest 1% take {digits(ratio)} times the median or longer "
            f"({seconds(slow[0].duration_s)} against {seconds(middle_s)}).{why}"
        ),
        advice=_advice(more),
        check="warpspan report: p99 must come nearer to p50.",
        evidence={"p99_over_p50": ratio, "p99_s": slow[0].duration_s, "more_of": more or None},
        time_s=part * subject.demand_s,
        share=part,
    )


def _generated(inference: Inference) -> float | None:
    loop = inference.loop
    return loop.generation.generated_tokens if loop and loop.generation else None


def _more(factor: _Factor, slow: list[Inference], everything: list[Inference]) -> float | None:
    of_slow = [value for one in slow if (value := factor.value(one)) is not None]
    of_all = [value for one in everything if (value := factor.value(one)) is not None]
    if not of_slow or not of_all or not median(of_all):
        return None
    return median(of_slow) / median(of_all)


def _advice(more: list[str]) -> str:
    words = " ".join(more)
    if "batch" in words or "tokens" in words:
        return "Bound the size of an input, or send large ones to a queue of their own."
    if "concurrency" in words or "queue" in words:
        return "Bound how many run at once; the others then wait before the model, not inside it."
    if "cold start" in words:
        return "Run the model once with each shape before the first request."
    return "Look at one of them: its trace id is on the span with this duration."
