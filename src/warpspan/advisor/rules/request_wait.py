"""The device idles while requests are open: the host prepares, decodes or post-processes."""

from __future__ import annotations

from collections.abc import Iterator

from warpspan.advisor.callers import Caller, callers
from warpspan.advisor.ledger import Idle
from warpspan.advisor.rule import finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records import Inference
from warpspan.records.units import seconds, share

IMPACT = Threshold("idle with an open request over the observed time ≥ 10%", 0.10, "TraceML")
STRONG = Threshold("the same ≥ 20%", 0.20, "XProf")
EXPLAINED = Threshold("that over all idle time with demand > 50%", 0.50, "gpu-idle")

_CHECK = "warpspan compare BEFORE AFTER: the idle share must fall and the rate of inferences rise."


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """By the spans of requests, or by a recording in which the host's functions are known."""
    observed_s = subject.observed_s
    if not observed_s or not subject.inferences:
        return
    waited_s = subject.idle_s(Idle.REQUEST_WAIT)
    prepared_s = subject.total(_prepared)
    if waited_s is None and prepared_s is None:
        yield from _unknown(subject)
        return
    time_s = (waited_s or 0.0) + (prepared_s or 0.0)
    part = time_s / observed_s
    if part < IMPACT.value or not _explains(subject, waited_s, prepared_s):
        return
    held = callers(subject)
    yield finding(
        subject,
        Cause.REQUEST_WAIT,
        IMPACT,
        STRONG,
        EXPLAINED,
        what=_what(subject, part, prepared_s, held),
        advice=_advice(subject, held),
        check=_CHECK,
        evidence={
            "request_wait_s": time_s,
            "busy_share": None if subject.busy_s is None else subject.busy_s / observed_s,
            "pre_and_postprocessing_s": prepared_s,
            "functions": [f"{caller.name} {share(caller.share)}" for caller in held] or None,
        },
        time_s=time_s,
        share=min(part, 1.0),
        strong=part >= STRONG.value,
        capped=any(part.line.exaggerated for part in subject.parts),
    )


def _prepared(inference: Inference) -> float | None:
    """Host time for pre- and post-processing inside a call, as that of a pipeline."""
    if inference.loop is None:
        return None
    phases = inference.loop.phases
    known = [one for one in (phases.preprocess_s, phases.postprocess_s) if one is not None]
    return sum(known) if known else None


def _explains(subject: Subject, waited_s: float | None, prepared_s: float | None) -> bool:
    reasons = (Idle.LAUNCH, Idle.SYNC, Idle.BETWEEN_STEPS, Idle.OTHER)
    others_s = sum(subject.idle_s(reason) or 0.0 for reason in reasons)
    time_s = (waited_s or 0.0) + (prepared_s or 0.0)
    return time_s > EXPLAINED.value * (time_s + others_s)


def _unknown(subject: Subject) -> Iterator[Unknown]:
    other_s = subject.idle_s(Idle.OTHER) or 0.0
    if other_s / subject.observed_s < IMPACT.value:
        return
    idle = f"{seconds(other_s)} between inferences"
    if subject.observation.traces:
        yield Unknown(
            Cause.REQUEST_WAIT,
            f"what the host did for {idle}: the recording has no Python functions",
            "record with torch.profiler.profile(with_stack=True)",
            other_s,
        )
    else:
        yield Unknown(
            Cause.REQUEST_WAIT,
            f"whether anybody waited for {idle}: there are no spans of requests",
            "instrument the server, for example with opentelemetry-instrumentation-fastapi",
            other_s,
        )


def _what(subject: Subject, part: float, prepared_s: float | None, held: list[Caller]) -> str:
    who = "device is idle" if subject.on_gpu else "model is not running"
    names = " and ".join(caller.name for caller in held[:2])
    if names:
        return (
            f"The {who} {share(part)} of the time between inferences, while the host runs {names}."
        )
    if prepared_s:
        return (
            f"For {share(part)} of the time the {who} while the host prepares inputs and outputs "
            f"({seconds(prepared_s)} of pre- and post-processing)."
        )
    return (
        f"The {who} {share(part)} of the time although requests are open: the host prepares them."
    )


def _advice(subject: Subject, held: list[Caller]) -> str:
    target = f"Move {held[0].name}" if held else "Move tokenizing, decoding and other preparation"
    if subject.on_gpu:
        return (
            f"{target} off the request's path: into workers that prepare the next batch while the "
            "device runs this one, or onto the device."
        )
    return f"{target} off the request's path, or run it while the model works on another request."
