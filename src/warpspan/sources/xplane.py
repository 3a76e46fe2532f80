"""Traces of TensorFlow's and JAX's profiler (XPlane) as a recording.

A plane is a device or the host of it, a line a stream or a thread, an event a kernel, a call or a
Python function. https://openxla.org/xprof
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

from google.protobuf.message import DecodeError

from warpspan.sources.profile.recording import COPY, FILL, KERNEL, Recording, Span, Unit
from warpspan.sources.xplane_schema import ONE_OF, x_space

MAX_BYTES = (1 << 31) - 1
"""protobuf reads no larger message."""

_DEVICE = re.compile(r"/device:(GPU|TPU|XPU):(\d+)")
_DEVICE_TYPES = {"GPU": "cuda", "TPU": "tpu", "XPU": "xpu"}
_CALL = re.compile(r"(?:cuda|cu|hip)[A-Z]\w+$")
_FUNCTION = re.compile(r"PjitFunction\((.*)\)$")
_TENSORFLOW_RUN = re.compile(r"FunctionRun$|(?:Direct)?Session::Run")
# An operator of TensorFlow in a graph (`name:type`), or run eagerly.
_TENSORFLOW_OP = re.compile(r"[^:]+:[A-Za-z_]\w*$|EagerLocalExecute: (?!__inference_)")
# What TensorFlow and JAX call the operators of a backward pass.
_BACKWARD = re.compile(r"gradient_tape/|transpose\(jvp")
_SIZE = re.compile(r"(?:size|num_bytes):(\d+)")
_HOST_MEMORY = re.compile(r"kind_(?:src|dst):(pageable|pinned)")
_FILL = re.compile(r"memset|rocclr_fillBuffer", re.IGNORECASE)
_COPY = re.compile(r"memcpy|rocclr_copyBuffer", re.IGNORECASE)


class XPlaneError(ValueError):
    """A file is not an XPlane, or no whole one; the message is a sentence about it."""


class _Event(NamedTuple):
    name: str
    start_ns: int
    end_ns: int
    stats: Mapping[str, Any]


def read_xplane(stream: BinaryIO, name: str) -> Recording:
    """Read a whole file.

    Raises:
        XPlaneError: it breaks off, is larger than `MAX_BYTES`, or has no event.
    """
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise XPlaneError(f"{name} is larger than 2 GiB: protobuf reads no such file")
    try:
        space = x_space().FromString(data)
    except DecodeError as error:
        raise XPlaneError(f"{name} is an XPlane file that breaks off or is damaged") from error
    reader = _Reader()
    for plane in space.planes:
        reader.add(plane)
    if not (len(reader.kept.ops) or len(reader.kept.frames) or len(reader.kept.device)):
        raise XPlaneError(f"{name} is an XPlane file without any event")
    return reader.finished()


class _Reader:
    def __init__(self) -> None:
        self.kept = Recording("XPlane")
        self.kept.async_launches = True
        self._steps: list[Unit] = []
        self._functions: list[Unit] = []
        self._runs: list[Unit] = []

    def add(self, plane: Any) -> None:
        """Read a plane."""
        device = _DEVICE.match(plane.name)
        names = _Names(plane, is_device=device is not None)
        if device is not None:
            self._add_device(plane, names, _DEVICE_TYPES[device[1]], int(device[2]))
        elif plane.name.startswith("/host:"):
            for line in plane.lines:
                thread = self.kept.threads[f"{plane.name}/{line.id}"]
                for event in names.events(line):
                    self._add_host(event, thread)
        elif plane.name == "Task Environment":
            self.kept.epoch_ns = int(names.stats(plane.stats).get("profile_start_time", 0))

    def _add_device(self, plane: Any, names: _Names, kind: str, number: int) -> None:
        stats = names.stats(plane.stats)
        streams = [line for line in plane.lines if line.name.startswith("Stream #")]
        # A TPU has no streams: its operations run one after another.
        lines = streams or [line for line in plane.lines if line.name == "XLA Ops"]
        for line in lines:
            for event in names.events(line):
                self._add_work(event, number, line.id)
        if any(len(line.events) for line in lines):
            self.kept.device_type = kind
            label = stats.get("device_type_string") or stats.get("device_vendor")
            if label:
                self.kept.device_labels[number] = str(label)
            if "memory_size" in stats:
                self.kept.device_limits[number] = int(stats["memory_size"])

    def _add_work(self, event: _Event, device: int, stream: int) -> None:
        name, details = event.name, str(event.stats.get("memcpy_details", ""))
        kind = FILL if _FILL.search(name) else COPY if _COPY.search(name) else KERNEL
        size = _SIZE.search(details)
        memory = _HOST_MEMORY.search(details)
        if kind == COPY and memory is not None:
            name = f"{name} ({memory[1]})"
        # A size of 0 stands for one that the profiler does not know.
        nbytes = int(size[1]) if kind == COPY and size is not None and int(size[1]) else -1
        self.kept.device.add(
            kind,
            event.start_ns,
            event.end_ns,
            self.kept.names[name],
            device,
            stream,
            int(event.stats.get("correlation_id", -1)),
            nbytes=nbytes,
        )

    def _add_host(self, event: _Event, thread: int) -> None:
        kept, name = self.kept, event.name
        span = Span(name, event.start_ns, event.end_ns, thread)
        operator = str(event.stats.get("hlo_op") or event.stats.get("tf_op") or "")
        if _CALL.match(name):
            number = int(event.stats.get("correlation_id", -1))
            kept.calls.add(event.start_ns, event.end_ns, kept.names[name], thread, number)
        elif _TENSORFLOW_OP.match(name):
            operator = name
        elif not operator:
            kept.has_python = kept.has_python or name.startswith("$")
            kept.frames.add(span.start_ns, span.end_ns, kept.names[name.lstrip("$")], thread)
        if operator:
            kept.ops.add(span.start_ns, span.end_ns, kept.names[operator], thread)
            if _BACKWARD.search(f"{operator} {event.stats.get('tf_op', '')}"):
                kept.backward.append(span.start_ns)
        if "step_num" in event.stats:
            training = name.lower().startswith("train")
            self._steps.append(Unit("step", name, None, *span[1:], training=training))
        elif match := _FUNCTION.match(name):
            self._functions.append(Unit("function", "jit", match[1], *span[1:]))
        elif "tf_function_call" in event.stats:
            self._functions.append(Unit("function", "function", name, *span[1:]))
        elif _TENSORFLOW_RUN.match(name):
            self._runs.append(Unit("function", "function", None, *span[1:]))

    def finished(self) -> Recording:
        """What was read, with the inferences that the profiler marked."""
        found = self._steps or self._functions or self._runs
        found.sort(key=lambda unit: (unit.thread, unit.start_ns, -unit.end_ns))
        for unit in found:
            before = self.kept.units[-1] if self.kept.units else None
            if before is None or before.thread != unit.thread or unit.start_ns >= before.end_ns:
                self.kept.units.append(unit)
        self.kept.sort()
        return self.kept


class _Names:
    """The names that the events of a plane refer to."""

    def __init__(self, plane: Any, *, is_device: bool) -> None:
        self._stats = {entry.key: entry.value.name for entry in plane.stat_metadata}
        self._events = {
            entry.key: (
                # On a device the short one: the other may be the whole text of an operation.
                (is_device and entry.value.display_name) or entry.value.name,
                self.stats(entry.value.stats),
            )
            for entry in plane.event_metadata
        }

    def stats(self, stats: Any) -> dict[str, Any]:
        """Names and values."""
        found = {}
        for stat in stats:
            field = stat.WhichOneof(ONE_OF)
            if field is not None:
                value = getattr(stat, field)
                value = self._stats.get(value, "") if field == "ref_value" else value
                found[self._stats.get(stat.metadata_id, "")] = value
        return found

    def events(self, line: Any) -> list[_Event]:
        """The events of a line that have a time."""
        base_ps = line.timestamp_ns * 1000
        found = []
        for event in line.events:
            if event.WhichOneof(ONE_OF) == "num_occurrences":  # a sum, without a time
                continue
            name, stats = self._events.get(event.metadata_id, ("", {}))
            start_ps = base_ps + event.offset_ps
            end_ps = start_ps + max(event.duration_ps, 0)
            found.append(
                _Event(
                    name,
                    round(start_ps / 1000),
                    round(end_ps / 1000),
                    {**stats, **self.stats(event.stats)},
                )
            )
        return found
