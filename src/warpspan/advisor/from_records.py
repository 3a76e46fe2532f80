"""Timelines of devices from the records of inferences: live ones, and those of OTLP files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from warpspan.advisor.ledger import Idle
from warpspan.advisor.timeline import Timeline, Window, split
from warpspan.records import Device, Inference
from warpspan.records.intervals import Intervals
from warpspan.records.request import Request, RequestKind

_Place: TypeAlias = tuple[str, str, int | None, str | None]

_TIMED_SHARE = 0.9
"""Of the inferences on a GPU so many need a device time, or its busy time is not known."""
_LINKED_SHARE = 0.5
"""If fewer inferences are inside requests, requests only hand work to other threads."""


def timelines(inferences: Iterable[Inference], requests: Sequence[Request]) -> list[Timeline]:
    """One for each device that ran any of these, and for each process that ran some on its CPU."""
    places: defaultdict[_Place, list[Inference]] = defaultdict(list)
    for inference in inferences:
        places[_place(inference)].append(inference)
    return [_timeline(held, requests) for _, held in sorted(places.items(), key=_order)]


def _order(item: tuple[_Place, list[Inference]]) -> tuple[str, str, int, str]:
    (process, kind, ordinal, hardware), _ = item
    return process, kind, -1 if ordinal is None else ordinal, hardware or ""


def _place(inference: Inference) -> _Place:
    """The hardware where it is known; else a process's own name for it."""
    device = inference.device
    if device.id is not None:
        return "", device.type, None, device.id
    return inference.process, device.type, device.ordinal, None


def _timeline(held: list[Inference], requests: Sequence[Request]) -> Timeline:
    held.sort(key=lambda one: (one.start_ns, one.span_id))
    device = held[0].device
    processes = sorted({one.process for one in held})
    windows = sorted(map(_window, held), key=lambda window: window[1:4])
    start_ns = min(window.open_ns[0] for window in windows)
    end_ns = max(window.open_ns[1] for window in windows)
    timed = [
        window
        for window, is_timed in zip(windows, map(_is_timed, windows), strict=True)
        if is_timed
    ]
    made = Timeline(
        device=Device(device.type, device.ordinal, device.id),
        process=processes[0] if len(processes) == 1 else "",
        start_ns=start_ns,
        end_ns=end_ns,
        windows=tuple(windows),
        busy=None,
        copying=None,
        idle={},
    )
    if len(timed) < _TIMED_SHARE * len(windows):
        return made
    busy = Intervals((window.start_ns, window.end_ns) for window in windows)
    return made._replace(busy=busy, idle=_idle(made, busy, processes, requests))


def _window(inference: Inference) -> Window:
    start_ns, end_ns = inference.start_ns, inference.end_ns
    timing = inference.timing
    if timing.device_time_s is None:
        return Window(inference, start_ns, end_ns, (start_ns, end_ns))
    begun_ns = start_ns + round((timing.queue_time_s or 0.0) * 1e9)
    done_ns = begun_ns + round(timing.device_time_s * 1e9)
    return Window(inference, begun_ns, done_ns, (start_ns, max(end_ns, done_ns)))


def _is_timed(window: Window) -> bool:
    inference = window.inference
    return inference.device.type == "cpu" or inference.timing.device_time_s is not None


def _idle(
    line: Timeline, busy: Intervals, processes: Sequence[str], requests: Sequence[Request]
) -> dict[Idle, Intervals | None]:
    demand = demand_of([window.inference for window in line.windows], processes, requests)
    if demand is None:
        return split(line.start_ns, line.end_ns, busy, {})
    running = Intervals(window.open_ns for window in line.windows)
    observed = Intervals([(line.start_ns, line.end_ns)])
    reasons: dict[Idle, Intervals | None] = {
        Idle.REQUEST_WAIT: demand - running,
        Idle.NO_DEMAND: observed - demand - running,
    }
    return split(line.start_ns, line.end_ns, busy, reasons)


def demand_of(
    inferences: Sequence[Inference], processes: Sequence[str], requests: Sequence[Request]
) -> Intervals | None:
    """When somebody waited for an inference; None where no request was observed.

    A request is a SERVER or CONSUMER span of the same process in the trace of an inference, else
    one of another process, else the root of the trace. Where fewer than half of the inferences are
    in such a trace, as behind a queue that batches, all SERVER and CONSUMER spans of these
    processes count.
    """
    traces = {one.trace_id for one in inferences if one.trace_id}
    by_trace: defaultdict[str, list[Request]] = defaultdict(list)
    for request in requests:
        if request.trace_id in traces:
            by_trace[request.trace_id].append(request)
    chosen = {trace_id: _around(held, processes) for trace_id, held in by_trace.items()}
    linked = sum(bool(chosen.get(one.trace_id)) for one in inferences)
    if linked >= _LINKED_SHARE * len(inferences):
        return Intervals(
            (request.start_ns, request.end_ns) for held in chosen.values() for request in held
        )
    served = [
        (request.start_ns, request.end_ns)
        for request in requests
        if request.kind != RequestKind.ROOT and request.process in processes
    ]
    return Intervals(served) if served else None


def _around(held: Sequence[Request], processes: Sequence[str]) -> list[Request]:
    served = [request for request in held if request.kind != RequestKind.ROOT]
    own = [request for request in served if request.process in processes]
    return own or served or list(held)
