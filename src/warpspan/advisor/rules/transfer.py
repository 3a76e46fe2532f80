"""Copies between host and device take time in which nothing else runs."""

from __future__ import annotations

from collections.abc import Iterator

from warpspan.advisor.rule import OURS, finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records import Inference, Transfer
from warpspan.records.units import seconds, share, size

IMPACT = Threshold("copies alone over the wall time ≥ 10%", 0.10, "TraceML")
STRONG = Threshold("the same ≥ 20%", 0.20, "gpu-idle")
PAGEABLE = Threshold("pageable share of the bytes ≥ 50%", 0.50, OURS)
WEIGHTS = Threshold("weights' share of the bytes ≥ 50%", 0.50, OURS)
UNTIMED = Threshold("bytes per inference without a time ≥ 16 MiB", 16 << 20, OURS)


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """By kernels where they are known, else by the times of copies."""
    if not subject.on_gpu or not subject.inferences:
        return
    if subject.is_traced:
        alone = [part.line.copying & part.span for part in subject.parts if part.line.copying]
        owned = [part.owned for part in subject.parts if part.line.copying]
        time_s = sum((one & mine).total_s for one, mine in zip(alone, owned, strict=True))
        yield from _found(subject, time_s, subject.demand_s)
        return
    if subject.observation.traces:
        return
    copies = _copies(subject)
    times = [copy.time_s for copy in copies]
    untimed = sum(copy.nbytes or 0 for copy in copies if copy.time_s is None)
    if untimed / len(subject.inferences) >= UNTIMED.value:
        yield Unknown(
            Cause.TRANSFER,
            f"the time of {size(untimed)} of copies",
            "leave OTEL_PYTHON_WARPSPAN_TRANSFERS at its default, so that copies are timed",
        )
    time_s = sum(time for time in times if time is not None)
    # Inputs are copied before the inference, and outputs after it.
    yield from _found(subject, time_s, subject.demand_s + time_s)


def _found(subject: Subject, time_s: float, wall_s: float) -> Iterator[Finding]:
    part = time_s / wall_s if wall_s else 0.0
    if part < IMPACT.value:
        return
    copies = _copies(subject)
    nbytes = sum(copy.nbytes or 0 for copy in copies)
    pageable = _part([copy.pageable_bytes for copy in copies], nbytes)
    weights = _part([copy.weight_bytes for copy in copies], nbytes)
    is_pageable = pageable is not None and pageable >= PAGEABLE.value
    is_weights = weights is not None and weights >= WEIGHTS.value
    overlapping = not subject.is_traced and max(subject.company) > 1
    yield finding(
        subject,
        Cause.TRANSFER,
        IMPACT,
        STRONG,
        PAGEABLE,
        WEIGHTS,
        what=(
            f"Copies between host and device take {share(part)} of the time: "
            f"{size(nbytes)} in {seconds(time_s)}"
            + (f", {share(pageable)} of it pageable" if pageable else "")
            + "."
        ),
        advice=_advice(is_pageable=is_pageable, is_weights=is_weights),
        check="warpspan compare BEFORE AFTER: bytes and time of copies per inference must fall.",
        evidence={
            "copies_s": time_s,
            "bytes": nbytes,
            "pageable_share": pageable,
            "weights_share": weights,
            "pageable": is_pageable or None,
            "weights": is_weights or None,
        },
        time_s=time_s,
        share=part,
        strong=part >= STRONG.value,
        capped=overlapping,
    )


def _advice(*, is_pageable: bool, is_weights: bool) -> str:
    if is_weights:
        return "Keep the weights on the device: call model.to(device) once, not for each request."
    if is_pageable:
        return (
            "Copy from pinned memory and without waiting: "
            "x.pin_memory().to(device, non_blocking=True), while the batch before it runs."
        )
    return "Copy less (smaller types, results reduced on the device), or while the device computes."


def _copies(subject: Subject) -> list[Transfer]:
    return [copy for one in subject.inferences for copy in _of(one)]


def _of(inference: Inference) -> list[Transfer]:
    return [] if inference.transfers is None else [*inference.transfers.by_direction().values()]


def _part(sizes: list[int | None], of: int) -> float | None:
    known = [size for size in sizes if size is not None]
    return sum(known) / of if known and of else None
