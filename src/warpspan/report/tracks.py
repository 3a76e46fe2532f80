"""A run as tracks of slices and as counters: what Perfetto and the page draw."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from warpspan.advisor import from_records, from_traces
from warpspan.advisor.observation import Observation
from warpspan.advisor.timeline import Timeline
from warpspan.records import Device, DeviceSample, Inference
from warpspan.records.intervals import Intervals
from warpspan.records.kernels import IdleGap, Trace

#: Tracks of a process or a device, from the top.
TRACKS = (
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


class Group:
    """The tracks and the counters of one process or one device.

    Attributes:
        name: what it is.
        tracks: slices by track, in no order, which may overlap.
        counters: levels by counter, in no order; the name has its unit.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.tracks: dict[str, list[Slice]] = {}
        self.counters: dict[str, list[Level]] = {}

    def ordered_tracks(self) -> list[str]:
        """The names of its tracks, from the top."""
        return sorted(self.tracks, key=TRACKS.index)

    def starts_ns(self) -> Iterator[int]:
        """Unix times of all starts."""
        for slices in self.tracks.values():
            yield from (one.start_ns for one in slices)
        for levels in self.counters.values():
            yield from (level.at_ns for level in levels)

    def add(self, track: str, *slices: Slice) -> None:
        """Put slices on a track."""
        self.tracks.setdefault(track, []).extend(slices)

    def count(self, counter: str, at_ns: int, value: float | None) -> None:
        """Set a counter at a Unix time, unless the value was not measured."""
        if value is not None:
            self.counters.setdefault(counter, []).append(Level(at_ns, value))


def tracks(observation: Observation, *, details: bool = True) -> list[Group]:
    """All tracks and counters of a run, processes first, then devices.

    Args:
        observation: the run.
        details: whether slices of inferences have all their attributes.
    """
    processes: dict[str, Group] = {}
    devices: dict[tuple[str, str], Group] = {}
    in_order = sorted(observation.inferences, key=lambda one: one.start_ns)
    flows = {id(one): number for number, one in enumerate(in_order, 1)}
    traced = {id(one.inference) for trace in observation.traces for one in trace.inferences}

    def process(identity: str) -> Group:
        return processes.setdefault(identity, Group(_process_name(identity)))

    def device(identity: str, one: Device) -> Group:
        key = (one.id or identity, _place(one))
        return devices.setdefault(key, Group(f"{_place(one)} {one.id or ''}".rstrip()))

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
        _add_inference(
            inference, _details(inference) if details else {}, flow, of_process, of_device
        )
        if id(inference) not in traced:
            _add_device_time(inference, flow, of_device)
    recorded = [one for one in in_order if id(one) not in traced]
    for line in from_records.timelines(recorded, observation.requests):
        if line.device.type != "cpu":
            device(line.process, line.device).add("idle", *_idle(line, 0, ()))
    for trace in observation.traces:
        _add_trace(trace, flows, process(trace.process), device)
        for line, on in zip(from_traces.timelines(trace), trace.devices, strict=True):
            device(line.process, line.device).add("idle", *_idle(line, trace.epoch_ns, on.between))
    by_id = {identity: group for (identity, _), group in devices.items()}
    for sample in observation.samples:
        group = by_id.get(sample.device_id)
        if group is None:
            group = devices[sample.device_id, ""] = by_id[sample.device_id] = Group(
                sample.device_id
            )
        _add_sample(sample, group)
    groups = [*processes.values(), *devices.values()]
    return [group for group in groups if group.tracks or group.counters]


def _details(inference: Inference) -> dict[str, Any]:
    """All its attributes, and its ids."""
    details: dict[str, Any] = {**inference.start_attributes(), **inference.end_attributes()}
    for key in ("trace_id", "span_id", "parent_span_id"):
        if value := getattr(inference, key):
            details[key] = value
    return details


def _add_inference(
    inference: Inference,
    details: dict[str, Any],
    flow: int | None,
    process: Group,
    device: Group,
) -> None:
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


def _add_device_time(inference: Inference, flow: int | None, device: Group) -> None:
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
    process: Group,
    device_of: Callable[[str, Device], Group],
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


def _idle(line: Timeline, epoch_ns: int, gaps: Iterable[IdleGap]) -> Iterator[Slice]:
    """Idle times of a device by reason, the longest ones with the Python functions that ran then."""
    for reason, time in line.idle.items():
        name = f"idle: {reason.value.replace('_', ' ')}"
        for start_ns, end_ns in time or ():
            ran = {
                one.name: one.time_s
                for gap in gaps
                if gap.start_ns <= start_ns < gap.end_ns
                for one in gap.functions
            }
            yield Slice(name, start_ns + epoch_ns, end_ns + epoch_ns, ran)


def _add_sample(sample: DeviceSample, group: Group) -> None:
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
        known = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in known.items())
    return f"process: {known}" if known else "process"
