"""Traces of PyTorch's profiler (Kineto, from torch 1.9 on) as a recording.

https://github.com/pytorch/kineto: Chrome's trace format, complete events (`"ph": "X"`) whose
category says what they are; times in microseconds from `baseTimeNanoseconds`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from warpspan.sources.profile.json_stream import EventStream
from warpspan.sources.profile.op_costs import op_inputs
from warpspan.sources.profile.recording import COPY, FILL, KERNEL, MemoryLevels, Recording, Span

MIN_FRAME_NS = 2_000
"""A shorter Python function is not kept: it explains no gap between two kernels."""

_MALFORMED = (AttributeError, KeyError, TypeError, ValueError, OverflowError)
_NANOSECONDS_FROM = 1e17
"""A time from here on is in nanoseconds: as microseconds it would be in the year 5138."""
_LARGEST = 4e18
"""No number of a trace is larger: times in nanoseconds end in the year 2096."""
_UNINTERESTING_CALL = re.compile(r"Get|Query|IsCapturing|Attribute|EventRecord|Occupancy|SetDevice")
_BACKWARD = re.compile(r"autograd::engine::evaluate_function|torch::autograd::|\w*Backward\d*$")
# Arrows from operators to what computes their gradients.
_FORWARD_TO_BACKWARD = ("fwdbwd", "forward_backward")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_TYPES = {0: "cpu", 1: "cuda", 6: "cuda", 12: "xpu", 13: "mps", 15: "hpu", 19: "mtia"}
"""torch's numbers of device types; HIP is `cuda` there."""
_VENDORS = {"": "cuda", "hip": "cuda"}
"""What torch calls the devices of a runtime, where that is another name."""


class KinetoReader:
    """Reads one trace, once.

    Args:
        stream: the trace, not compressed, in binary mode.

    Attributes:
        recording: what was kept of it.
        events: the stream of its events, with its counts.
        foreign_count: events that PyTorch's profiler does not write.
        malformed_count: events with a value that can't be right.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.recording = Recording("PyTorch Profiler")
        self.events = EventStream(stream)
        self.foreign_count = 0
        self.malformed_count = 0
        self._per_us: int | None = None
        self._kept_calls: dict[str, bool] = {}
        self._inputs: dict[str, int] = {}
        self._backward: dict[str, bool] = {}
        self._known: dict[Any, Callable[[Mapping[str, Any]], None] | None] = {}

    def read(self) -> Recording:
        """Read to the end."""
        for event in self.events:
            try:
                self._add(event)
            except _MALFORMED:
                self.malformed_count += 1
        self._read_header()
        self.recording.sort()
        return self.recording

    def _add(self, event: Mapping[str, Any]) -> None:
        phase = event.get("ph")
        if phase == "X":
            category = event.get("cat")
            try:
                handler = self._known[category]
            except KeyError:
                kind = str(category).lower().replace(" ", "_")
                handler = self._known[category] = self._handler(kind)
            if handler is None:
                self.foreign_count += 1
            else:
                handler(event)
        elif event.get("name") == "[memory]":
            self._add_memory(event)
        elif phase == "f" and event.get("cat") in _FORWARD_TO_BACKWARD:
            self.recording.backward.append(self._times(event)[0])

    def _handler(self, category: str) -> Callable[[Mapping[str, Any]], None] | None:
        vendor, _, interface = category.rpartition("_")
        if interface in ("runtime", "driver"):
            if self.recording.device_type is None:
                self.recording.device_type = _VENDORS.get(vendor, vendor)
            return self._add_call
        return {
            "cpu_op": self._add_op,
            "operator": self._add_op,
            "python_function": self._add_frame,
            "user_annotation": self._add_annotation,
            "kernel": self._add_kernel,
            "gpu_memcpy": self._add_copy,
            "memcpy": self._add_copy,
            "gpu_memset": self._add_fill,
            "memset": self._add_fill,
            "cuda_sync": self._add_device_sync,
            "cuda_profiler_range": self._count_unmeasured,
            "gpu_user_annotation": _ignore,
            "overhead": _ignore,
            "trace": _ignore,
            "collective_comm": _ignore,
        }.get(category)

    def _times(self, event: Mapping[str, Any]) -> tuple[int, int]:
        """Start and end in nanoseconds.

        Absolute times in microseconds are multiples of a quarter in double precision. The end is
        computed in it as well: an exact one would seem to overlap what follows at once.
        """
        start, duration = event["ts"], event.get("dur", 0)
        if self._per_us is None:
            self._per_us = 1 if _NANOSECONDS_FROM < start < _LARGEST else 1000
        end, per_us = start + duration, self._per_us
        if not -_LARGEST < start * per_us <= end * per_us < _LARGEST:
            raise ValueError(start, duration)
        whole_start, whole_end = int(start), int(end)
        return (
            whole_start * per_us + round((start - whole_start) * per_us),
            whole_end * per_us + round((end - whole_end) * per_us),
        )

    def _thread(self, event: Mapping[str, Any]) -> int:
        return self.recording.threads[f"{event.get('pid')}/{event.get('tid')}"]

    def _add_op(self, event: Mapping[str, Any]) -> None:
        kept, name = self.recording, str(event["name"])
        start_ns, end_ns = self._times(event)
        arguments = event.get("args") or {}
        inputs = -1
        dims = arguments.get("Input Dims", arguments.get("Input dims"))
        if dims:
            kept.has_shapes = True
            types = arguments.get("Input type", arguments.get("Input Types"))
            inputs = self._inputs_number(name, dims, types, arguments.get("Concrete Inputs"))
        if self._is_backward(name):
            kept.backward.append(start_ns)
        number = _integer(arguments, "External id", "external id")
        kept.ops.add(start_ns, end_ns, kept.names[name], self._thread(event), number, inputs)

    def _is_backward(self, name: str) -> bool:
        found = self._backward.get(name)
        if found is None:
            found = self._backward[name] = _BACKWARD.match(name) is not None
        return found

    def _inputs_number(self, name: str, dims: Any, types: Any, values: Any) -> int:
        key = f"{name}{dims}{types}{values}"
        number = self._inputs.get(key)
        if number is None:
            number = self._inputs[key] = len(self.recording.inputs)
            self.recording.inputs.append(op_inputs(name, dims, types, values))
        return number

    def _add_frame(self, event: Mapping[str, Any]) -> None:
        kept, name = self.recording, _ADDRESS.sub("", str(event["name"]))
        kept.has_python = True
        start_ns, end_ns = self._times(event)
        if name.startswith("nn.Module: "):
            kept.module_names.add(kept.names[name])
        elif end_ns - start_ns < MIN_FRAME_NS:
            kept.short_frames += 1
            return
        kept.frames.add(start_ns, end_ns, kept.names[name], self._thread(event))

    def _add_annotation(self, event: Mapping[str, Any]) -> None:
        name = str(event["name"])
        start_ns, end_ns = self._times(event)
        if name.startswith("Optimizer.step#"):
            self.recording.optimizer_steps.append(start_ns)
        self.recording.annotations.append(Span(name, start_ns, end_ns, self._thread(event)))

    def _add_call(self, event: Mapping[str, Any]) -> None:
        name = str(event["name"])
        keep = self._kept_calls.get(name)
        if keep is None:
            keep = self._kept_calls[name] = not _UNINTERESTING_CALL.search(name)
        if keep:
            start_ns, end_ns = self._times(event)
            arguments = event.get("args") or {}
            self.recording.calls.add(
                start_ns,
                end_ns,
                self.recording.names[name],
                self._thread(event),
                _integer(arguments, "correlation"),
                _integer(arguments, "External id", "external id"),
            )

    def _add_kernel(self, event: Mapping[str, Any]) -> None:
        self._add_work(event, KERNEL)

    def _add_copy(self, event: Mapping[str, Any]) -> None:
        self._add_work(event, COPY)

    def _add_fill(self, event: Mapping[str, Any]) -> None:
        self._add_work(event, FILL)

    def _add_work(self, event: Mapping[str, Any], kind: int) -> None:
        kept = self.recording
        start_ns, end_ns = self._times(event)
        arguments = event.get("args") or {}
        device = _integer(arguments, "device")
        stream = _integer(arguments, "stream")
        kept.device.add(
            kind,
            start_ns,
            end_ns,
            kept.names[str(event["name"])],
            device if device >= 0 else _integer(event, "pid"),
            stream if stream >= 0 else _integer(event, "tid"),
            _integer(arguments, "correlation"),
            _integer(arguments, "External id", "external id"),
            _integer(arguments, "bytes"),
            _number(arguments.get("est. achieved occupancy %")),
        )

    def _add_device_sync(self, event: Mapping[str, Any]) -> None:
        name = str(event["name"])
        if "Wait Event" in name:  # a stream that waits, and no host
            return
        start_ns, end_ns = self._times(event)
        number = _integer(event.get("args") or {}, "correlation")
        kept = self.recording
        kept.device_syncs.add(start_ns, end_ns, kept.names[name], -1, number)

    def _count_unmeasured(self, _: Mapping[str, Any]) -> None:
        self.recording.unmeasured_kernels += 1

    def _add_memory(self, event: Mapping[str, Any]) -> None:
        arguments = event["args"]
        device = _TYPES.get(arguments.get("Device Type"), "")
        allocated = _integer(arguments, "Total Allocated")
        if not device or allocated < 0:
            return
        time_ns, _ = self._times(event)
        place = (device, max(_integer(arguments, "Device Id"), 0))
        levels = self.recording.memory.setdefault(place, MemoryLevels())
        levels.add(time_ns, allocated, _integer(arguments, "Total Reserved"))

    def _read_header(self) -> None:
        kept, header = self.recording, self.events.header
        base = header.get("baseTimeNanoseconds")
        if self._per_us == 1000 and isinstance(base, int):
            kept.epoch_ns = base
        for device in _list(header.get("deviceProperties")):
            if isinstance(device, dict) and type(device.get("id")) is int:
                kept.device_labels[device["id"]] = str(device.get("name") or "").strip()
                limit = _integer(device, "totalGlobalMem")
                if limit > 0:
                    kept.device_limits[device["id"]] = limit
        distributed = header.get("distributedInfo")
        if isinstance(distributed, dict) and type(distributed.get("rank")) is int:
            kept.rank = distributed["rank"]
        if len(kept.device) and kept.device_type is None:
            kept.device_type = "cuda"


def _ignore(_: Mapping[str, Any]) -> None:
    pass


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> float:
    """A number that can be counted with, else -1."""
    return float(value) if type(value) in (int, float) and math.isfinite(value) else -1.0


def _integer(arguments: Mapping[str, Any], *names: str) -> int:
    """The first of these values that is a whole number, else -1."""
    for name in names:
        value = arguments.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) < 20:
            value = int(value)
        if type(value) is int and -1 <= value < _LARGEST:
            return value
    return -1
