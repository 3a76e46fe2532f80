"""Most of an inference's time does not depend on its batch: several requests fit in one."""

from __future__ import annotations

from collections.abc import Iterator

from warpspan.advisor.fit import Fit, fit
from warpspan.advisor.rule import OURS, finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records import Inference
from warpspan.records.units import digits, seconds, share

FIXED = Threshold("fixed part of the time at the median batch ≥ 50%", 0.50, OURS)
OVERLAPPED = Threshold("inferences with others beside or before them ≥ 20%", 0.20, OURS)
SMALL = Threshold("median batch ≤ 4 is small", 4, OURS)

_BESIDE = 1.5
_QUEUED = 0.1


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """Only where there is demand: inferences that overlap or queue could run together."""
    if not subject.inferences or subject.observation.traces:
        return
    waiting = sum(
        beside >= _BESIDE or _queued(one)
        for one, beside in zip(subject.inferences, subject.company, strict=True)
    ) / len(subject.inferences)
    if waiting < OVERLAPPED.value:
        return
    line = fit(subject.inferences, subject.company)
    if line is None:
        batch = subject.middle(lambda one: one.input.batch_size)
        if batch is not None and batch <= SMALL.value:
            yield Unknown(
                Cause.BATCHING,
                "what a larger batch takes: inferences of at least three batch sizes",
                "send some requests with batches of 1, 4 and 16, and report again",
            )
        return
    if line.fixed_share < FIXED.value:
        return
    wall_s = subject.demand_s
    yield finding(
        subject,
        Cause.BATCHING,
        FIXED,
        OVERLAPPED,
        what=_what(line),
        advice=(
            "Collect the requests that arrive within a few milliseconds into one batch "
            "(dynamic batching), up to the largest batch that fits in memory."
        ),
        check="warpspan compare BEFORE AFTER: rate up, time per item down.",
        evidence={
            "fixed_s": line.fixed_s,
            f"per_{line.unit}_s": line.each_s,
            f"median_{line.unit}": line.middle,
            "fixed_share": line.fixed_share,
            "sizes": line.sizes,
            "with_company_share": waiting,
        },
        time_s=line.fixed_share * wall_s,
        share=line.fixed_share,
    )


def _queued(inference: Inference) -> bool:
    timing = inference.timing
    queued_s, device_s = timing.queue_time_s or 0.0, timing.device_time_s or 0.0
    return device_s > 0 and queued_s >= _QUEUED * device_s


def _what(line: Fit) -> str:
    noun = "item" if line.unit == "batch" else "token"
    return (
        f"{share(line.fixed_share)} of an inference's time does not depend on its size: "
        f"{seconds(line.fixed_s)} fixed and {seconds(line.each_s)} per {noun}, at a median of "
        f"{digits(line.middle)}, while other inferences run beside it or wait."
    )
