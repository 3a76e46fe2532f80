"""Profiler traces: recognized by what is in them, read into records.

Kineto's JSON (PyTorch's profiler) and XPlane (TensorFlow's and JAX's), compressed with gzip or not.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from warpspan.records.kernels import Trace
from warpspan.sources.kineto import KinetoReader
from warpspan.sources.profile.build import build
from warpspan.sources.profile.recording import Recording

HEAD_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_OTLP = re.compile(rb'\s*\{\s*"resource(?:Spans|Metrics|Logs|Profiles)"')
_KINETO_KEYS = re.compile(
    rb'\s*\{\s*"(?:schemaVersion|deviceProperties|distributedInfo|displayTimeUnit'
    rb'|baseTimeNanoseconds|traceEvents|traceName|trace_id|metadata)"'
)
_KINETO_EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
# Of an XPlane: a plane with an id or none, and its name.
_PLANE = re.compile(
    rb"\n[\x80-\xff]{0,5}[\x00-\x7f](?:\x08[\x80-\xff]{0,9}[\x00-\x7f])?\x12[\x00-\x7f][ -~]"
)
_EVENT_LIST = re.compile(rb'\s*\[\s*\{\s*"(?:ph|name|cat|pid|tid|ts)"')


class TraceError(Exception):
    """A trace has nothing to report; the message is one sentence about it."""


class TraceFile(NamedTuple):
    """A trace that was read.

    Args:
        trace: its records.
        event_count: events in it.
        broken_count: events that could not be read.
        cut: whether it breaks off.
    """

    trace: Trace
    event_count: int
    broken_count: int
    cut: bool


class Head(NamedTuple):
    """The beginning of a file.

    Args:
        data: decompressed.
        compressed: whether the file is.
    """

    data: bytes
    compressed: bool = False

    @classmethod
    def of(cls, data: bytes) -> Head:
        """Of the first bytes of a file, decompressed as far as they go."""
        if not data.startswith(_GZIP):
            return cls(data)
        try:
            return cls(zlib.decompressobj(wbits=31).decompress(data, HEAD_BYTES), compressed=True)
        except zlib.error:
            return cls(b"", compressed=True)

    @property
    def kind(self) -> str | None:
        """`kineto` or `xplane`, None for everything else."""
        return recognize(self.data)


def recognize(head: bytes) -> str | None:
    """`kineto` or `xplane` by the beginning of a file that is not compressed, else None."""
    if _OTLP.match(head):
        return None
    text = head.removeprefix(b"\xef\xbb\xbf")
    if _KINETO_KEYS.match(text) or _EVENT_LIST.match(text):
        return "kineto"
    if text.lstrip()[:1] == b"{" and _KINETO_EVENTS.search(text):
        return "kineto"
    return "xplane" if _PLANE.match(head) else None


def head_of(path: Path) -> Head:
    """The beginning of a file."""
    with path.open("rb") as stream:
        return Head.of(stream.read(HEAD_BYTES))


def find_traces(folder: Path) -> tuple[list[Path], int]:
    """The traces in a folder and below it, and how many other files there are."""
    found, others = [], 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            if head_of(path).kind is None:
                others += 1
            else:
                found.append(path)
    return found, others


def read_trace(stream: BinaryIO, name: str, head: Head) -> TraceFile:
    """Read one trace.

    Args:
        stream: at its start, in binary mode.
        name: what to call it.
        head: its beginning.

    Raises:
        TraceError: there is nothing in it to report.
    """
    if head.compressed:
        stream = cast("BinaryIO", gzip.GzipFile(fileobj=stream))
    process = Path(name).name.removesuffix(".gz")
    if head.kind == "xplane":
        return TraceFile(build(_xplane(stream, name), process), 0, 0, cut=False)
    reader = KinetoReader(stream)
    recording = reader.read()
    events = reader.events
    if not events.found:
        raise TraceError(f"{name} has no traceEvents: it breaks off before them, or has none")
    broken = events.broken_count + reader.malformed_count
    parts: tuple[Sized, ...] = (
        recording.ops,
        recording.frames,
        recording.device,
        recording.annotations,
    )
    if not any(len(part) for part in parts):
        raise TraceError(_nothing(name, events.event_count, broken, reader.foreign_count))
    return TraceFile(build(recording, process), events.event_count, broken, events.cut)


def _xplane(stream: BinaryIO, name: str) -> Recording:
    try:  # only these files need protobuf
        from warpspan.sources.xplane import XPlaneError, read_xplane
    except ImportError as error:
        raise TraceError(f"{name} is an XPlane file: pip install protobuf to read it") from error
    try:
        return read_xplane(stream, name)
    except XPlaneError as error:
        raise TraceError(str(error)) from error


def _nothing(name: str, events: int, broken: int, foreign: int) -> str:
    if broken and broken == events:
        return f"the values of all {broken:,} events in {name} are broken"
    if events == 0:
        return f"{name} is a trace without any event"
    if foreign:
        return (
            f"{name} is a trace in Chrome's format, but not of PyTorch's profiler: none of its "
            f"{events:,} events is an operator, a kernel or an annotation of it"
        )
    return f"{name} has no operator, no kernel and no annotation: nothing was profiled"


def named_apart(files: Iterable[TraceFile], names: Iterable[str]) -> list[TraceFile]:
    """Files whose processes have the same name, as two traces of one rank, get their own."""
    held = list(zip(files, names, strict=True))
    processes = [file.trace.process for file, _ in held]
    return [
        file
        if processes.count(file.trace.process) == 1
        else file._replace(trace=_renamed(file.trace, f"{file.trace.process} ({name})"))
        for file, name in held
    ]


def _renamed(trace: Trace, process: str) -> Trace:
    return trace._replace(
        process=process,
        inferences=tuple(
            one._replace(inference=one.inference._replace(process=process))
            for one in trace.inferences
        ),
        devices=tuple(device._replace(process=process) for device in trace.devices),
    )
