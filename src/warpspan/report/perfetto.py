"""A run as a trace that ui.perfetto.dev and chrome://tracing open: Chrome's JSON trace events.

The format is
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU, whose times are
microseconds; here they count from the first event, so that no digit of the nanoseconds is lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TextIO, TypeAlias

from warpspan.advisor.observation import Observation
from warpspan.records import Device, DeviceSample, Inference
from warpspan.records.intervals import Intervals
from warpspan.records.kernels import DeviceTimeline, Trace
from warpspan.records.units import printable

_Event: TypeAlias = dict[str, Any]

#: Tracks of a process or a device, from the top.
_TRACKS = (
    "requests", "inferences", "steps", "waits", "device", "kernels", "copies", "idle",
)  # fmt: skip


class Slice(NamedTuple):
    """Something that took a time.

    Args:
        name: its name.
        start_ns: Unix time of its start.
        end_ns: of its end.
        details: what a click on it shows.
        flow: slices with the same one are connected by an arrow, in the order of their starts.
    """

    name: str
    start_ns: int
    end_ns: int
    details: dict[str, Any] = {}  # noqa: RUF012 - never changed
    flow: int | None = None


class Level(NamedTuple):
    """A value of a counter at a time."""

    at_ns: int
    value: float


class _Group:
    """The tracks and the counters of one process or one device."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tracks: dict[str, list[Slice]] = {}
        self.counters: dict[str, list[Level]] = {}

    def add(self, track: str, *slices: Slice) -> None:
        self.tracks.setdefault(track, []).extend(slices)

    def count(self, counter: str, at_ns: int, value: float | None) -> None:
        if value is not None:
            self.counters.setdefault(counter, []).append(Level(at_ns, value))


def write_perfetto(observation: Observation, stream: TextIO) -> int:
    """Write a run as Chrome's trace events, one on a line, and return how many there are.

    Args:
        observation: the run.
        stream: a text file.
    """
    groups = _groups(observation)
    first_ns = min((at_ns for group in groups for at_ns in _starts(group)), default=0)
    stream.write('{"displayTimeUnit":"ns","otherData":')
    json.dump({"start_unix_ns": str(first_ns), "writer": "warpspan"}, stream)
    stream.write(',"traceEvents":[')
    total = 0
    for total, event in enumerate(_events(groups, first_ns), 1):
        stream.write("\n" if total == 1 else ",\n")
        json.dump(event, stream, separators=(",", ":"))
    stream.write("\n]}\n")
    return total


def _starts(group: _Group) -> Iterator[int]:
    for slices in group.tracks.values():
        yield from (one.start_ns for one in slices)
    for levels in group.counters.values():
        yield from (level.at_ns for level in levels)


def _groups(observation: Observation) -> list[_Group]:
    """Processes first, then devices."""
    processes: dict[str, _Group] = {}
    devices: dict[tuple[str, str], _Group] = {}
    in_order = sorted(observation.inferences, key=lambda one: one.start_ns)
    flows = {id(one): number for number, one in enumerate(in_order, 1)}
    traced = {id(one.inference) for trace in observation.traces for one in trace.inferences}

    def process(identity: str) -> _Group:
        return processes.setdefault(identity, _Group(_process_name(identity)))

    def device(identity: str, one: Device) -> _Group:
        key = (one.id or identity, _place(one))
        return devices.setdefault(key, _Group(f"{_place(one)} {one.id or ''}".rstrip()))

    for request in observation.requests:
        process(request.process).add(
            "requests",
            Slice(
                request.name or "request",
                request.start_ns,
                request.end_ns,
                {"trace_id": request.trace_id, "kind": request.kind.value},
            ),
        )
    for inference in in_order:
        of_process, of_device = (
            process(inference.process),
            device(inference.process, inference.device),
        )
        flow = flows[id(inference)] if inference.timing.device_time_s is not None else None
        _add_inference(inference, flow, of_process, of_device)
        if id(inference) not in traced:
            _add_device_time(inference, flow, of_device)
    for trace in observation.traces:
        _add_trace(trace, flows, process(trace.process), device)
    by_id = {identity: group for (identity, _), group in devices.items()}
    for sample in observation.samples:
        group = by_id.get(sample.device_id)
        if group is None:
            group = devices[sample.device_id, ""] = by_id[sample.device_id] = _Group(
                sample.device_id
            )
        _add_sample(sample, group)
    groups = [*processes.values(), *devices.values()]
    return [group for group in groups if group.tracks or group.counters]


def _add_inference(inference: Inference, flow: int | None, process: _Group, device: _Group) -> None:
    details = {**inference.start_attributes(), **inference.end_attributes()}
    for key in ("trace_id", "span_id", "parent_span_id"):
        if value := getattr(inference, key):
            details[key] = value
    name = _name(inference)
    process.add("inferences", Slice(name, inference.start_ns, inference.end_ns, details, flow))
    for step in () if inference.loop is None else inference.loop.steps:
        start_ns = inference.start_ns + round(step.start_s * 1e9)
        process.add("steps", Slice(step.phase, start_ns, start_ns + round(step.duration_s * 1e9)))
    memory, cache, usage = inference.memory, inference.cache, inference.usage
    if memory is not None:
        device.count("memory allocated (bytes)", inference.start_ns, memory.allocated_start_bytes)
        device.count("memory allocated (bytes)", inference.end_ns, memory.allocated_end_bytes)
        device.count("memory peak of an inference (bytes)", inference.end_ns, memory.peak_bytes)
        device.count("memory reserved (bytes)", inference.end_ns, memory.reserved_bytes)
        process.count("resident memory (bytes)", inference.end_ns, memory.rss_bytes)
    if cache is not None:
        alive = cache.size_bytes if cache.alive_bytes is None else cache.alive_bytes
        device.count(f"KV caches of {inference.model.name} (bytes)", inference.end_ns, alive)
    if usage is not None:
        device.count(
            "SM utilization of an inference (%)", inference.end_ns, _percent(usage.sm_utilization)
        )
        device.count("power during an inference (W)", inference.end_ns, usage.power_w)


def _add_device_time(inference: Inference, flow: int | None, device: _Group) -> None:
    timing = inference.timing
    if timing.device_time_s is None:
        return
    start_ns = inference.start_ns + round((timing.queue_time_s or 0.0) * 1e9)
    end_ns = start_ns + round(timing.device_time_s * 1e9)
    details = {"trace_id": inference.trace_id} if inference.trace_id else {}
    device.add("device", Slice(_name(inference), start_ns, end_ns, details, flow))


def _add_trace(
    trace: Trace,
    flows: Mapping[int, int],
    process: _Group,
    device_of: Callable[[str, Device], _Group],
) -> None:
    """The sets of time of a profiler's trace; its names of kernels are not kept with their times."""

    def slices(name: str, time: Intervals) -> list[Slice]:
        return [Slice(name, start + trace.epoch_ns, end + trace.epoch_ns) for start, end in time]

    process.add("waits", *slices("wait for the device", trace.waits))
    for one in trace.inferences:
        process.add("steps", *slices("step", one.steps))
        for place, work in enumerate(one.work):
            flow = None if place else flows[id(one.inference)]
            details = {
                "kernels": work.kernel_count, "launches": work.launch_count,
                "busy_s": work.busy_s, "idle_s": work.idle_s,
            }  # fmt: skip
            known = {key: value for key, value in details.items() if value is not None}
            start_ns, end_ns = work.start_ns + trace.epoch_ns, work.end_ns + trace.epoch_ns
            device_of(trace.process, work.device).add(
                "device", Slice(_name(one.inference), start_ns, end_ns, known, flow)
            )
    for line in trace.devices:
        group = device_of(trace.process, line.device)
        if line.name:
            group.name = f"{_place(line.device)} {line.name}"
        group.add("kernels", *slices("kernels", line.computing))
        group.add("copies", *slices("copies", line.copying))
        if line.complete:
            group.add("idle", *_idle(line, trace.epoch_ns))


def _idle(line: DeviceTimeline, epoch_ns: int) -> Iterator[Slice]:
    """Gaps of a device, the longest ones with the Python functions that ran in them."""
    functions = {(gap.start_ns, gap.end_ns): gap.functions for gap in line.between}
    for start_ns, end_ns in line.busy.gaps():
        ran = {one.name: one.time_s for one in functions.get((start_ns, end_ns), ())}
        yield Slice("idle", start_ns + epoch_ns, end_ns + epoch_ns, ran)


def _add_sample(sample: DeviceSample, group: _Group) -> None:
    at_ns = sample.unix_ns
    if at_ns is None:
        return
    for name, value in (
        ("power (W)", sample.power_w),
        ("temperature (°C)", sample.temperature_c),
        ("GPU utilization (%)", _percent(sample.utilization)),
        ("SM utilization (%)", _percent(sample.sm_utilization)),
        ("tensor utilization (%)", _percent(sample.tensor_utilization)),
        ("DRAM utilization (%)", _percent(sample.dram_utilization)),
        ("memory in use (bytes)", sample.memory_used_bytes),
    ):
        group.count(name, at_ns, value)


def _events(groups: Iterable[_Group], first_ns: int) -> Iterator[_Event]:
    thread = 0
    for pid, group in enumerate(groups, 1):
        yield _metadata("process_name", pid, 0, name=printable(group.name))
        yield _metadata("process_sort_index", pid, 0, sort_index=pid)
        for track in sorted(group.tracks, key=_TRACKS.index):
            for number, lane in enumerate(lanes(group.tracks[track]), 1):
                thread += 1
                name = track if number == 1 else f"{track} {number}"
                yield _metadata("thread_name", pid, thread, name=name)
                yield _metadata("thread_sort_index", pid, thread, sort_index=thread)
                for one in lane:
                    yield from _slice_events(one, track, pid, thread, first_ns)
        for counter, levels in group.counters.items():
            for level in sorted(levels):
                yield {
                    "ph": "C", "name": printable(counter), "pid": pid, "ts": _us(level.at_ns - first_ns),
                    "args": {"value": level.value},
                }  # fmt: skip


def _slice_events(one: Slice, track: str, pid: int, tid: int, first_ns: int) -> Iterator[_Event]:
    event = {
        "ph": "X", "name": printable(one.name), "cat": track, "pid": pid, "tid": tid,
        "ts": _us(one.start_ns - first_ns), "dur": _us(one.end_ns - one.start_ns),
    }  # fmt: skip
    if one.details:
        event["args"] = one.details
    yield event
    if one.flow is not None:
        arrow = {
            "name": "launch",
            "cat": "flow",
            "id": one.flow,
            "pid": pid,
            "tid": tid,
            "ts": event["ts"],
        }
        yield {"ph": "s", **arrow} if track == "inferences" else {"ph": "f", "bp": "e", **arrow}


def lanes(slices: Iterable[Slice]) -> list[list[Slice]]:
    """Slices dealt to as few lanes as it takes for none to overlap another one in its lane."""
    held: list[list[Slice]] = []
    for one in sorted(slices, key=lambda one: (one.start_ns, -one.end_ns)):
        free = next((lane for lane in held if lane[-1].end_ns <= one.start_ns), None)
        if free is None:
            held.append([one])
        else:
            free.append(one)
    return held


def _metadata(kind: str, pid: int, tid: int, **args: Any) -> _Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": args}


def _us(value_ns: int) -> float:
    return value_ns / 1000


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _name(inference: Inference) -> str:
    return f"{inference.operation} {inference.model.name or ''}".rstrip()


def _place(device: Device) -> str:
    return device.type if device.ordinal is None else f"{device.type}:{device.ordinal}"


def _process_name(identity: str) -> str:
    """A process by what tells it apart in its resource, or by its name."""
    try:
        known = json.loads(identity)
    except ValueError:
        known = identity
    if isinstance(known, dict):
        known = ", ".join(f"{key} {value}" for key, value in known.items())
    return f"process {known or ''}".rstrip()
