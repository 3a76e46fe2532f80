"""Observations for tests of the advisor: series of inferences, requests around them, recordings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tests.sources.helpers.kineto_trace import KinetoTrace
from warpspan.advisor.engine import advise
from warpspan.advisor.observation import Observation
from warpspan.advisor.verdict import Verdict
from warpspan.records import Device, Inference, Input, Model, Timing
from warpspan.records.request import Request

CPU = Device("cpu")
GPU = Device("cuda", 0, "GPU-1")
BEGIN_NS = 1_700_000_000_000_000_000


def ns(seconds: float) -> int:
    """Unix time of a second of the test."""
    return BEGIN_NS + round(seconds * 1e9)


def inference(
    at_s: float,
    duration_s: float = 0.05,
    *,
    device: Device = CPU,
    model: str = "Net",
    batch: int | None = None,
    length: int | None = None,
    trace: str = "",
    timing: dict[str, Any] | None = None,
    **fields: Any,
) -> Inference:
    """One that starts at a second of the test; on a GPU it fills its device time exactly."""
    times = {"device_time_s": duration_s, "queue_time_s": 0.0} if device.type != "cpu" else {}
    return Inference(
        operation="forward",
        start_ns=ns(at_s),
        duration_s=duration_s,
        device=device,
        trace_id=trace,
        span_id=f"{at_s:.6f}",
        input=Input(batch_size=batch, sequence_length=length),
        timing=Timing(**{**times, **(timing or {})}),
        **{"model": Model(name=model), **fields},
    )


def series(
    count: int, every_s: float = 0.1, duration_s: float = 0.05, **fields: Any
) -> list[Inference]:
    """Inferences at a steady pace."""
    return [inference(at * every_s, duration_s, **fields) for at in range(count)]


def request(start_s: float, end_s: float, trace: str, **fields: Any) -> Request:
    """A request between two seconds of the test."""
    return Request(ns(start_s), ns(end_s), trace, **fields)


def served(
    count: int, *, before_s: float, duration_s: float, after_s: float, pause_s: float, **fields: Any
) -> Observation:
    """Requests one after another, each with one inference between two parts on the host."""
    inferences, requests = [], []
    every_s = before_s + duration_s + after_s + pause_s
    for at in range(count):
        start_s = at * every_s
        trace = f"{at:032x}"
        inferences.append(inference(start_s + before_s, duration_s, trace=trace, **fields))
        requests.append(request(start_s, start_s + every_s - pause_s, trace))
    return Observation(inferences, requests)


def verdict(observation: Observation | Iterable[Inference]) -> Verdict:
    """The only verdict of an observation, or of inferences alone."""
    if not isinstance(observation, Observation):
        observation = Observation(tuple(observation))
    (only,) = advise(observation).verdicts
    return only


def named(found: Verdict) -> tuple[list[str], list[str], list[str]]:
    """Ids of bottlenecks, of findings, and of what it can't tell."""
    return (
        [one.id.value for one in found.bottlenecks],
        [one.id.value for one in found.findings],
        [one.id.value for one in found.cant_tell],
    )


def claims(found: Verdict) -> set[str]:
    """All ids that a verdict names."""
    bottlenecks, findings, _ = named(found)
    return {*bottlenecks, *findings}


def shares(found: Verdict, *ids: str) -> list[float | None]:
    """The shares of findings by id, rounded to a percent."""
    held = {one.id.value: one.share for one in (*found.bottlenecks, *found.findings)}
    parts = [held[name] for name in ids]
    return [None if part is None else round(part, 2) for part in parts]


def recording(trace: KinetoTrace) -> Observation:
    """What a profiler's trace gives."""
    return Observation.of_traces([trace.read()])


def eager(
    count: int, *, kernels: int, kernel_us: float, every_us: float, pause_us: float = 0.0
) -> KinetoTrace:
    """Calls of a model that launch one kernel after another; Python functions are not recorded."""
    made = KinetoTrace(deviceProperties=[{"id": 0, "name": "NVIDIA H100 80GB HBM3"}])
    whole_us = kernels * every_us
    for at in range(count):
        start = 1000 + at * (whole_us + pause_us)
        made.annotation("forward", start, whole_us)
        for kernel in range(kernels):
            launch = start + kernel * every_us
            made.op("aten::mm", launch, every_us)
            made.work(launch + 5, kernel_us, launch=launch + 1)
    return made


def shuffled(held: Sequence[Any], order: Sequence[int]) -> list[Any]:
    """The same ones in another order."""
    return [held[at] for at in order]
