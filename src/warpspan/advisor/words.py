"""The answer in one sentence, as a person would say it."""

from __future__ import annotations

from collections.abc import Sequence

from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Confidence, Finding
from warpspan.records.units import digits, printable, share

_SAYS = {
    Cause.LAUNCH: "the device waits {share} of the time for the host to launch its next kernel",
    Cause.SYNC: "the device idles {share} of the time because the host stops to wait for it",
    Cause.REQUEST_WAIT: "the {device} is idle {share} of the time while requests wait for the CPU",
    Cause.TRANSFER: "copies between host and device take {share} of the time",
    Cause.BETWEEN_STEPS: "{share} of the time passes between the steps of the model",
    Cause.BATCHING: "{share} of an inference's time does not depend on its batch, and requests wait",
    Cause.CONTENTION: "{share} of the inferences' time is lost because they compete with each other",
    Cause.COMPUTE: "the device's arithmetic is the limit: it is busy {share} of the time",
    Cause.MEMORY_BANDWIDTH: "the device's memory bandwidth is the limit: it is busy {share} of the time",
    Cause.DEVICE: "the {processor} itself is the limit: it is busy {share} of the time",
    Cause.MEMORY_CAPACITY: "the device's memory is full",
    Cause.KV_GROWTH: "KV caches are never released and grow",
    Cause.THROTTLING: "the device's clock is held down, which costs up to {share} of the time",
    Cause.GC: "Python's garbage collector takes {share} of the time",
    Cause.NO_DEMAND: "nothing holds it back; for {share} of the time nobody asks for anything",
    Cause.CANT_TELL: "what held it back can't be told",
}
_REMEDIES = {
    Cause.LAUNCH: "Launching less often, or ahead of time,",
    Cause.SYNC: "Reading values later",
    Cause.REQUEST_WAIT: "Moving that off the request's path",
    Cause.TRANSFER: "Hiding or avoiding them",
    Cause.BETWEEN_STEPS: "Taking that out of the loop",
    Cause.BATCHING: "Larger batches",
    Cause.CONTENTION: "Running fewer at once",
    Cause.KV_GROWTH: "Releasing them",
    Cause.THROTTLING: "Cooling or a higher power limit",
    Cause.GC: "Collecting between requests",
}
_MAKE = {Cause.BATCHING}


def sentence(subject: Subject, bottlenecks: Sequence[Finding]) -> str:
    """One or two sentences about the first bottleneck, and the second one's where there is one."""
    first = bottlenecks[0]
    operation, model, _ = subject.key
    name = printable(f"{operation} {model or ''}".rstrip())
    said = f"{name}: {_says(subject, first)}"
    if len(bottlenecks) > 1:
        said += f", and {_says(subject, bottlenecks[1])}"
    said += "."
    remedy, most = _REMEDIES.get(first.id), first.ceiling_gain
    if remedy is None or most is None or most < 1.01:
        return said
    verb = "make" if first.id in _MAKE else "makes"
    verb = "could make" if first.confidence == Confidence.POSSIBLE else verb
    what = "each inference" if first.id == Cause.CONTENTION else "it"
    return f"{said} {remedy} {verb} {what} up to {digits(most)} times faster."


def _says(subject: Subject, one: Finding) -> str:
    part = "" if one.share is None else share(one.share)
    said = _SAYS[one.id].format(
        share=part,
        device="device" if subject.on_gpu else "model",
        processor="device" if subject.on_gpu else "processor",
    )
    return f"{said}{_doing(one)}" if one.id == Cause.REQUEST_WAIT else said


def _doing(one: Finding) -> str:
    """What the host does meanwhile, where it is known: ` (preprocess → resize)`."""
    functions = one.evidence.get("functions")
    if isinstance(functions, list):
        # `app.py(7): preprocess 98%`
        names = [name.rsplit(" ", 1)[0].rsplit(": ", 1)[-1] for name in functions]
        return f" ({' → '.join(names)})"
    prepared_s = one.evidence.get("pre_and_postprocessing_s")
    if isinstance(prepared_s, float) and one.time_s and prepared_s >= one.time_s / 2:
        return " (pre- and post-processing)"
    return ""
