"""What the steps of an inference say about it: pure functions of their phases and times."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from warpspan.records import (
    Denoising,
    GenAi,
    Generation,
    Loop,
    PhaseCycles,
    Phases,
    StepClock,
    StepTime,
)
from warpspan.records.phases import (
    ASSISTANT,
    DECODE,
    DENOISE,
    ENCODER,
    PHASES,
    PREFILL,
    STEP,
    TEXT_ENCODER,
    VAE,
)
from warpspan.runtime.loop_notes import LoopNotes

#: Begin and end in seconds since the begin of the inference on its device.
Span: TypeAlias = tuple[float, float]
CyclesOf: TypeAlias = Callable[[Sequence[Span]], PhaseCycles | None]


class StepTimes(NamedTuple):
    """The steps in the order of their ends, in seconds since the begin of the inference.

    Args:
        names: of the phases, by their number.
        phases: the phase of each step.
        begins_s: when each began.
        ends_s: when each ended.
        source: the clock.
        offset_s: to be added to a time for the time since the begin on the host's clock, or None.
        over_decode_s: time of the decode steps whose own times are not kept, on the host's clock.
    """

    names: tuple[str, ...]
    phases: Sequence[int]
    begins_s: Sequence[float]
    ends_s: Sequence[float]
    source: StepClock
    offset_s: float | None
    over_decode_s: float = 0.0


def figures(
    times: StepTimes,
    notes: LoopNotes,
    *,
    total_s: float | None,
    details: bool = False,
    cycles: CyclesOf | None = None,
) -> Loop | None:
    """The figures of an inference, or None where there are none.

    Args:
        times: its steps.
        notes: what is known beside.
        total_s: its own time by the same clock, of which shares are taken, or None.
        details: also give each step.
        cycles: says what the inference had of its device in spans of its time, where that is known.
    """
    spent = _spent(times)
    phases = Phases(
        pipeline=notes.pipeline,
        source=times.source if times.phases else None,
        encoder_s=spent.get(ENCODER),
        preprocess_s=_seconds(notes.preprocess_ns),
        postprocess_s=_seconds(notes.postprocess_ns),
    )
    plain = _spread(_durations(times))
    if plain is not None:
        phases = phases._replace(
            step_mean_s=plain[0], step_p50_s=plain[1], step_p99_s=plain[2], step_max_s=plain[3]
        )
    loop = Loop(
        phases=phases,
        generation=_generation(times, notes, spent),
        denoising=_denoising(times, notes, spent, total_s),
        gen_ai=_gen_ai(notes),
        **_cycles(times, notes, cycles),
        steps=_details(times) if details else (),
    )
    return None if loop == Loop() else loop


def _gen_ai(notes: LoopNotes) -> GenAi | None:
    if notes.operation is None:
        return None
    return GenAi(
        notes.operation,
        "pytorch",
        notes.model,
        notes.input_tokens,
        notes.generated_tokens,
    )


def _generation(times: StepTimes, notes: LoopNotes, spent: dict[int, float]) -> Generation | None:
    if PREFILL not in spent and notes.input_tokens is None:
        return None
    prefill_ends_s = [
        end for phase, end in zip(times.phases, times.ends_s, strict=True) if phase == PREFILL
    ]
    first_s = previous_s = None
    chunks = notes.first_chunks or 1
    if len(prefill_ends_s) >= chunks and times.offset_s is not None:
        first_s = prefill_ends_s[chunks - 1] + times.offset_s
    prefill_s = decode_s = between_s = between_others_s = 0.0
    intervals: list[float] = []
    for phase, begin_s, end_s in zip(times.phases, times.begins_s, times.ends_s, strict=True):
        if phase == PREFILL:
            prefill_s += end_s - begin_s
            previous_s, between_others_s = end_s, 0.0
        elif phase == DECODE and previous_s is not None:
            interval_s = end_s - previous_s
            intervals.append(interval_s)
            decode_s += interval_s
            between_s += max(0.0, begin_s - previous_s - between_others_s)
            previous_s, between_others_s = end_s, 0.0
        else:
            between_others_s += end_s - begin_s
    steps = len(intervals) + notes.over_decode_steps
    kept_decode_s = decode_s
    decode_s += times.over_decode_s
    mean = p50 = p99 = longest = None
    if notes.speculative:
        if steps and notes.later_tokens:
            mean = decode_s / notes.later_tokens
    elif steps:
        mean = decode_s / steps
        _, p50, p99, longest = _spread(intervals) or (None, None, None, None)
    return Generation(
        input_tokens=notes.input_tokens,
        generated_tokens=notes.generated_tokens,
        first_token_s=first_s,
        token_mean_s=mean,
        token_p50_s=p50,
        token_p99_s=p99,
        token_max_s=longest,
        prefill_s=prefill_s if PREFILL in spent else None,
        decode_s=decode_s if steps else None,
        decode_steps=steps if PREFILL in spent else None,
        between_s=between_s if intervals else None,
        between_share=between_s / kept_decode_s if kept_decode_s > 0 else None,
        assistant_steps=_count(times, ASSISTANT) + notes.over_assistant_steps or None,
        assistant_s=spent.get(ASSISTANT),
    )


def _cycles(
    times: StepTimes, notes: LoopNotes, cycles: CyclesOf | None
) -> dict[str, PhaseCycles | None]:
    if cycles is None or times.source != StepClock.DEVICE:
        return {}
    prefill: list[Span] = []
    decode: list[Span] = []
    since_s = None  # a decode step's time begins where the step before it ended
    for phase, begin_s, end_s in zip(times.phases, times.begins_s, times.ends_s, strict=True):
        if phase == PREFILL:
            prefill.append((begin_s, end_s))
            since_s = end_s
        elif phase == DECODE and since_s is not None:
            if decode and decode[-1][1] == since_s:
                since_s, _ = decode.pop()
            decode.append((since_s, end_s))
            since_s = end_s
    if notes.over_decode_steps:
        decode = []  # their times are not known
    return {"prefill_cycles": cycles(prefill), "decode_cycles": cycles(decode)}


def _denoising(
    times: StepTimes, notes: LoopNotes, spent: dict[int, float], total_s: float | None
) -> Denoising | None:
    begins = [
        at for phase, at in zip(times.phases, times.begins_s, strict=True) if phase == DENOISE
    ]
    if not begins:
        return None
    end_s = max(
        at for phase, at in zip(times.phases, times.ends_s, strict=True) if phase == DENOISE
    )
    calls = len(begins)
    steps = notes.denoise_steps
    if not steps or calls % steps:  # the pipeline does not say, or counts otherwise
        steps = calls
    starts = [*begins[:: calls // steps], end_s]
    spread = _spread(after - before for before, after in pairwise(starts))
    vae_s, text_s = spent.get(VAE), spent.get(TEXT_ENCODER)
    mean, p50, p99, longest = spread or (None, None, None, None)
    return Denoising(
        steps=steps,
        duration_s=end_s - begins[0],
        step_mean_s=mean,
        step_p50_s=p50,
        step_p99_s=p99,
        step_max_s=longest,
        vae_s=vae_s,
        vae_share=_share(vae_s, total_s),
        text_encoder_s=text_s,
        text_encoder_share=_share(text_s, total_s),
    )


def _details(times: StepTimes) -> tuple[StepTime, ...]:
    offset_s = times.offset_s or 0.0
    return tuple(
        StepTime(times.names[phase], begin_s + offset_s, end_s - begin_s)
        for phase, begin_s, end_s in zip(times.phases, times.begins_s, times.ends_s, strict=True)
    )


def _durations(times: StepTimes) -> list[float]:
    return [
        end_s - begin_s
        for found, begin_s, end_s in zip(times.phases, times.begins_s, times.ends_s, strict=True)
        if found == STEP or found >= len(PHASES)
    ]


def _spent(times: StepTimes) -> dict[int, float]:
    spent: dict[int, float] = {}
    for phase, begin_s, end_s in zip(times.phases, times.begins_s, times.ends_s, strict=True):
        spent[phase] = spent.get(phase, 0.0) + end_s - begin_s
    return spent


def _count(times: StepTimes, phase: int) -> int:
    return sum(found == phase for found in times.phases)


def _spread(values: Iterable[float]) -> tuple[float, float, float, float] | None:
    """Mean, nearest-rank median and 99th percentile, and maximum."""
    ordered = sorted(values)
    if not ordered:
        return None
    p50, p99 = (ordered[math.ceil(part * len(ordered)) - 1] for part in (0.5, 0.99))
    return sum(ordered) / len(ordered), p50, p99, ordered[-1]


def _share(part_s: float | None, total_s: float | None) -> float | None:
    return part_s / total_s if part_s is not None and total_s else None


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
