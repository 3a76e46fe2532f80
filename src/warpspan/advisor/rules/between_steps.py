"""A loop of steps leaves the model alone between them: sampling, schedulers, callbacks."""

from __future__ import annotations

from collections.abc import Iterator

from warpspan.advisor.ledger import Idle
from warpspan.advisor.rule import finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records import Generation, Loop
from warpspan.records.units import seconds, share

_NVIDIA = "NVIDIA's host-bound analysis for TensorRT-LLM"
IMPACT = Threshold("time between steps over the decode time ≥ 15%", 0.15, _NVIDIA)
STRONG = Threshold("the same ≥ 40%", 0.40, _NVIDIA)


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """By idle gaps of the device where kernels are known, else by the times of steps."""
    idle_s = subject.idle_s(Idle.BETWEEN_STEPS) if subject.is_traced else None
    if idle_s is not None:
        yield from _found(subject, idle_s, subject.inside_s, subject.demand_s)
        return
    loops = [loop for one in subject.inferences if (loop := _generation(one.loop)) is not None]
    timed = [loop for loop in loops if loop.between_s is not None and loop.decode_s]
    if not timed:
        return
    between_s = sum(loop.between_s or 0.0 for loop in timed)
    decode_s = sum(loop.decode_s or 0.0 for loop in timed)
    durations_s = subject.total(lambda one: one.duration_s) or 0.0
    yield from _found(subject, between_s, decode_s, durations_s)


def _generation(loop: Loop | None) -> Generation | None:
    return None if loop is None else loop.generation


def _found(subject: Subject, between_s: float, decode_s: float, wall_s: float) -> Iterator[Finding]:
    part = between_s / decode_s if decode_s else 0.0
    if part < IMPACT.value or not wall_s:
        return
    whole = min(between_s / wall_s, 1.0)
    yield finding(
        subject,
        Cause.BETWEEN_STEPS,
        IMPACT,
        STRONG,
        what=(
            f"{share(part)} of the decode time ({seconds(between_s)}) passes between the steps of "
            "the model: sampling, stopping criteria, streaming."
        ),
        advice=(
            "Take work out of the loop: fewer logits processors and stopping criteria, a streamer "
            "on a thread of its own, a static cache with a compiled step "
            '(cache_implementation="static").'
        ),
        check="warpspan report: the column 'between steps' must fall.",
        evidence={"between_s": between_s, "decode_s": decode_s, "share_of_decode": part},
        time_s=whole * (subject.demand_s or wall_s),
        share=whole,
        strong=part >= STRONG.value,
        capped=any(part.line.exaggerated for part in subject.parts),
    )
