"""From an observation to ledgers and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from warpspan.advisor.observation import Observation
from warpspan.advisor.rule import POSSIBLE_FROM
from warpspan.advisor.rules import HINTS, RULES
from warpspan.advisor.subject import Subject, subjects
from warpspan.advisor.verdict import Advice, Cause, Confidence, Finding, Unknown, Verdict
from warpspan.advisor.words import sentence

_SECOND_FROM = 0.75
"""A second bottleneck has so much of the first one's time."""
_MOST_FINDINGS = 3

_STATES = (Cause.DEVICE, Cause.COMPUTE, Cause.MEMORY_BANDWIDTH, Cause.NO_DEMAND)
"""No faults: they are the verdict where no fault takes more time."""
_INSIDE_BUSY = (
    Cause.BATCHING,
    Cause.CONTENTION,
    Cause.THROTTLING,
    Cause.GC,
    Cause.KV_GROWTH,
    Cause.BETWEEN_STEPS,
)
"""Faults that keep a device busy: what they explain is not the device's own."""
_NEVER_FIRST = (
    Cause.TAIL,
    Cause.OVERSIZED,
    Cause.FRAGMENTATION,
    Cause.PRECISION,
    Cause.FUSION,
)
_END_THE_PROGRAM = (Cause.KV_GROWTH, Cause.MEMORY_CAPACITY)
"""They end the program sooner or later, and are named before a device that is well used."""


def advise(observation: Observation) -> Advice:
    """Where the time went, and what held the inferences back."""
    lines, found = subjects(observation)
    verdicts = sorted(
        map(_verdict, found), key=lambda one: (-one.wall_s, one.operation, one.model or "")
    )
    ledgers = sorted(
        (line.ledger() for line in lines),
        key=lambda one: (-one.elapsed_s, one.process, one.device.type, one.device.ordinal or 0),
    )
    return Advice(tuple(ledgers), tuple(verdicts))


def _verdict(subject: Subject) -> Verdict:
    found: list[Finding] = []
    unknown: list[Unknown] = []
    if subject.observation.traces and subject.on_gpu and not subject.works:
        unknown.append(
            Unknown(
                Cause.CANT_TELL,
                "when the device was busy: no kernel was recorded",
                "record with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], without "
                "counters of the hardware",
            )
        )
    elif subject.seen < POSSIBLE_FROM.value and not subject.works:
        unknown.append(
            Unknown(
                Cause.CANT_TELL,
                "a second inference: the first one is warm-up",
                "run some more of them",
            )
        )
    else:
        for rule in RULES:
            for one in rule(subject):
                if isinstance(one, Finding):
                    found.append(one)
                else:
                    unknown.append(one)
        found += [one for hint in HINTS for under in [*found] for one in hint(subject, under)]
    first = _bottlenecks(found)
    # What is not known may be larger than what is: then the latter is no bottleneck yet.
    most_s = max((one.time_s or 0.0 for one in unknown), default=0.0)
    if first and first[0].time_s is not None and first[0].time_s < most_s:
        unknown.sort(key=lambda one: -(one.time_s or 0.0))
        first = []
    rest = sorted((one for one in found if one not in first), key=_by_time)
    bottlenecks = first or [_cant_tell(subject, unknown)]
    operation, model, device_type = subject.key
    return Verdict(
        operation=operation,
        model=model,
        device_type=device_type,
        inference_count=subject.seen,
        warm_up_count=len(subject.warm_up),
        wall_s=subject.wall_s,
        sentence=sentence(subject, bottlenecks),
        bottlenecks=tuple(bottlenecks),
        findings=tuple(_unique(rest)[:_MOST_FINDINGS]),
        cant_tell=tuple(unknown),
    )


def _by_time(one: Finding) -> tuple[float, str]:
    return -(one.time_s or 0.0), one.id.value


def _unique(found: Iterable[Finding]) -> list[Finding]:
    return [*{one.id: one for one in reversed([*found])}.values()][::-1]


def _bottlenecks(found: Sequence[Finding]) -> list[Finding]:
    """The one with most time, and a second one of nearly the same; none where nothing has any."""
    faults = [one for one in found if one.id not in (*_STATES, *_NEVER_FIRST) and one.time_s]
    ends = [one for one in found if one.id in _END_THE_PROGRAM]
    explained_s = max((one.time_s or 0.0 for one in faults if one.id in _INSIDE_BUSY), default=0.0)
    times_s = {one.id: one.time_s or 0.0 for one in faults}
    for one in found:
        if one.id == Cause.NO_DEMAND:
            if not faults:
                times_s[one.id] = one.time_s or 0.0
        elif one.id in _STATES:
            times_s[one.id] = max((one.time_s or 0.0) - explained_s, 0.0)
    ranked = sorted(
        (one for one in found if times_s.get(one.id)),
        key=lambda one: (-times_s[one.id], one.id.value),
    )
    if ends and (not ranked or ranked[0].id in _STATES):
        return ends[:1]
    if not ranked:
        return []
    first = ranked[0]
    near = [one for one in ranked[1:] if times_s[one.id] >= _SECOND_FROM * times_s[first.id]]
    if first.id in _STATES:
        return [first]
    return [first, *(one for one in near[:1] if one.id not in _STATES)]


def _cant_tell(subject: Subject, unknown: Sequence[Unknown]) -> Finding:
    missing = unknown[0].missing if unknown else "no cause takes more than its threshold"
    return Finding(
        id=Cause.CANT_TELL,
        confidence=Confidence.POSSIBLE,
        strong=False,
        time_s=None,
        share=None,
        ceiling_gain=None,
        evidence={} if subject.busy_s is None else {"busy_s": subject.busy_s},
        thresholds=(),
        what=f"It can't be told what held this back: {missing}."
        if not unknown
        else f"It can't be told what held this back. Not known: {missing}.",
        advice=unknown[0].how[0].upper() + unknown[0].how[1:] + "." if unknown else "",
        check="",
    )
