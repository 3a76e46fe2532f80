"""Inferences out of OTLP JSON lines: the file exporters of OpenTelemetry's SDKs and Collector.

Each line is one export: an object with `resourceSpans`, `resourceMetrics`, `resourceLogs` or
`resourceProfiles`, ids in hexadecimal, 64-bit integers as strings
(https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/).
"""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

from warpspan.records import (
    DETAILS_EVENT,
    PROFILE_EVENT,
    STEPS_EVENT,
    DeviceSample,
    Inference,
    Loop,
    StepTime,
    codec,
)
from warpspan.records.request import Request, RequestKind
from warpspan.signals import instruments, names
from warpspan.sources.hardware import HardwareSamples

MAX_LINE_BYTES = 64 << 20
"""A longer line is not read: one batch of 512 spans takes about 2 MB."""

KEPT_REQUESTS = 100_000
"""Requests that are kept, the last ones: some 30 MB."""

_REQUEST_KINDS = {
    2: RequestKind.SERVER,
    5: RequestKind.CONSUMER,
    "SPAN_KIND_SERVER": RequestKind.SERVER,
    "SPAN_KIND_CONSUMER": RequestKind.CONSUMER,
}
_SIGNALS = ("resourceSpans", "resourceMetrics", "resourceLogs", "resourceProfiles")
_IDENTITY = ("service.instance.id", "host.name", "process.pid")
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gzip -dc"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc"),
    b"BZh": ("bzip2", "bzip2 -dc"),
    b"\xfd7zXZ": ("xz", "xz -dc"),
}
# What a value of the wrong shape raises on its way through the parser.
_MALFORMED = (AttributeError, KeyError, TypeError, ValueError, OverflowError)
_CACHE_LEVELS = (
    instruments.PYTORCH_KV_CACHE_USAGE,
    instruments.PYTORCH_KV_CACHE_COUNT,
    instruments.PYTORCH_KV_CACHE_LEAK_SCORE,
)
_CACHE_LEVEL_NAMES = frozenset(metric.name for metric in _CACHE_LEVELS)
_Series: TypeAlias = tuple[str, str, str]


class Lines(Protocol):
    """Lines of bytes, as a file opened in binary mode has them."""

    def readline(self, limit: int = -1, /) -> bytes:
        """The next line, or so many bytes of it; empty at the end."""


class OtlpJsonReader:
    """Iterates once over the inferences of a stream of OTLP JSON lines, and counts the rest.

    The counts are final when the iteration has ended.

    Args:
        stream: the lines, in binary mode.

    Attributes:
        lines: lines with anything on them.
        otlp_lines: those that are OTLP.
        foreign_lines: valid JSON, but not OTLP.
        broken_lines: not JSON, or longer than `MAX_LINE_BYTES`; without the cut one.
        cut: whether the last line breaks off, as when a process is killed or a disk is full.
        inferences: inference spans read.
        other_spans: spans of other instrumentations.
        broken_spans: inference spans with a value that can't be right.
        requests: spans that inferences may be inside of: those of kind SERVER or CONSUMER, and the
            roots of traces; the last `KEPT_REQUESTS`.
        compression: name of the compression of the stream and a command that undoes it, if any.
    """

    def __init__(self, stream: Lines) -> None:
        self._stream = stream
        self._counted: dict[_Series, int] = {}
        self._dropped: dict[_Series, int] = {}
        self._skipped: dict[_Series, int] = {}
        self._levels: dict[str, dict[tuple[str, str], tuple[int, float]]] = {}
        self._hardware = HardwareSamples()
        self.requests: deque[Request] = deque(maxlen=KEPT_REQUESTS)
        self.lines = 0
        self.otlp_lines = 0
        self.foreign_lines = 0
        self.broken_lines = 0
        self.cut = False
        self.inferences = 0
        self.other_spans = 0
        self.broken_spans = 0
        self.compression: tuple[str, str] | None = None

    @property
    def counted(self) -> int:
        """Inferences that warpspan's metrics counted, whether or not they have a span."""
        return sum(self._counted.values())

    def counted_by_model(self) -> dict[tuple[str, str], int]:
        """Inferences that warpspan's metrics counted, by process and model."""
        counted: Counter[tuple[str, str]] = Counter()
        for (process, attributes, _), value in self._counted.items():
            model = str(json.loads(attributes).get(names.PYTORCH_MODEL_NAME, ""))
            counted[process, model] += value
        return dict(counted)

    @property
    def skipped(self) -> dict[str, int]:
        """Calls that warpspan skipped, by reason, from its metrics."""
        return _by_label(self._skipped, names.WARPSPAN_SKIP_REASON)

    @property
    def dropped(self) -> dict[str, int]:
        """Inferences without a whole span, by reason, from warpspan's metrics."""
        return _by_label(self._dropped, names.WARPSPAN_DROP_REASON)

    def kv_cache_levels(self) -> dict[tuple[str, str], tuple[int, int, float]]:
        """Bytes, count and leak score of the living KV caches of each process and model.

        Those of their last points, summed over devices, of the scores the highest.
        """
        levels: dict[tuple[str, str], tuple[int, int, float]] = {}
        sizes, counts, scores = (self._levels.get(metric.name, {}) for metric in _CACHE_LEVELS)
        for (process, attributes), (_, score) in scores.items():
            series = (process, attributes)
            model = str(json.loads(attributes).get(names.PYTORCH_MODEL_NAME, ""))
            size, count, highest = levels.get((process, model), (0, 0, 0.0))
            levels[process, model] = (
                size + int(sizes.get(series, (0, 0))[1]),
                count + int(counts.get(series, (0, 0))[1]),
                max(highest, score),
            )
        return levels

    def device_samples(self) -> list[DeviceSample]:
        """What the metrics said of the devices, one sample per device and export, oldest first."""
        return self._hardware.samples()

    def __iter__(self) -> Iterator[Inference]:
        while line := self._stream.readline(MAX_LINE_BYTES):
            if self.lines == 0:
                self.compression = next(
                    (how for magic, how in _COMPRESSED.items() if line.startswith(magic)), None
                )
                if self.compression is not None or b"\0" in line[:4096]:
                    self.lines = self.broken_lines = 1
                    return
            ended = line.endswith(b"\n")
            if not ended and len(line) == MAX_LINE_BYTES:
                self._skip_line()
                self.lines += 1
                self.broken_lines += 1
            elif line.strip():
                self.lines += 1
                yield from self._read_line(line, ended=ended)

    def _skip_line(self) -> None:
        while (rest := self._stream.readline(1 << 20)) and not rest.endswith(b"\n"):
            pass

    def _read_line(self, line: bytes, *, ended: bool) -> Iterator[Inference]:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self.cut = not ended
            self.broken_lines += ended
            return
        if not isinstance(message, dict) or not any(
            isinstance(message.get(name), list) for name in _SIGNALS
        ):
            self.foreign_lines += 1
            return
        self.otlp_lines += 1
        for block in message.get("resourceMetrics", ()):
            with suppress(*_MALFORMED):
                self._read_metrics(block)
        for block in message.get("resourceSpans", ()):
            spans: list[Any] = []
            with suppress(*_MALFORMED):
                process = _process(block)
                spans = [span for scope in block["scopeSpans"] for span in scope["spans"]]
            for span in spans:
                inference = self._read_span(span, process)
                if inference is not None:
                    yield inference

    def _read_span(self, span: Any, process: str) -> Inference | None:
        try:
            attributes = _attributes(span)
            if names.PYTORCH_OPERATION_NAME not in attributes:
                self.other_spans += 1
                self._note_request(span, process)
                return None
            steps: tuple[StepTime, ...] = ()
            for event in span.get("events", ()):
                if event["name"] in (DETAILS_EVENT, PROFILE_EVENT):
                    attributes |= _attributes(event)
                elif event["name"] == STEPS_EVENT:
                    steps = _steps(_attributes(event))
            start_ns = int(span["startTimeUnixNano"])
            inference = Inference.from_attributes(
                attributes,
                start_ns=start_ns,
                duration_s=(int(span["endTimeUnixNano"]) - start_ns) / 1e9,
                trace_id=str(span.get("traceId", "")),
                span_id=str(span.get("spanId", "")),
                parent_span_id=str(span.get("parentSpanId", "")),
                process=process,
            )
            if steps:
                inference = inference._replace(
                    loop=(inference.loop or Loop())._replace(steps=steps)
                )
            sound = inference.duration_s >= 0 and codec.is_sound(attributes)
        except _MALFORMED:
            sound = False
        if not sound:
            self.broken_spans += 1
            return None
        self.inferences += 1
        return inference

    def _note_request(self, span: Mapping[str, Any], process: str) -> None:
        kind = _REQUEST_KINDS.get(span.get("kind", 0))
        if kind is None and not span.get("parentSpanId"):
            kind = RequestKind.ROOT
        if kind is None:
            return
        with suppress(*_MALFORMED):
            start_ns, end_ns = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
            trace_id, name = str(span["traceId"]), str(span.get("name", ""))
            self.requests.append(Request(start_ns, end_ns, trace_id, name, process, kind))

    def _read_metrics(self, block: Mapping[str, Any]) -> None:
        process = _process(block)
        for scope in block["scopeMetrics"]:
            for metric in scope["metrics"]:
                if metric["name"] == instruments.PYTORCH_INFERENCE_DURATION.name:
                    _count(self._counted, process, metric["histogram"], "count")
                elif metric["name"] == instruments.WARPSPAN_DROPPED.name:
                    _count(self._dropped, process, metric["sum"], "asInt")
                elif metric["name"] == instruments.WARPSPAN_SKIPPED.name:
                    _count(self._skipped, process, metric["sum"], "asInt")
                elif metric["name"] in _CACHE_LEVEL_NAMES:
                    data = metric.get("gauge") or metric["sum"]
                    _last(self._levels.setdefault(metric["name"], {}), process, data)
                elif metric["name"].startswith("hw."):
                    for point in (metric.get("gauge") or metric["sum"])["dataPoints"]:
                        at_ns, value = int(point["timeUnixNano"]), _number(point)
                        self._hardware.add(metric["name"], _attributes(point), at_ns, value)


def _count(totals: dict[_Series, int], process: str, data: Mapping[str, Any], field: str) -> None:
    """Fold the points of a counter: a cumulative point replaces its series' last, a delta adds."""
    cumulative = data["aggregationTemporality"] in (2, "AGGREGATION_TEMPORALITY_CUMULATIVE")
    for point in data["dataPoints"]:
        series = (
            process,
            json.dumps(_attributes(point), sort_keys=True),
            str(point.get("startTimeUnixNano", "")) if cumulative else "",
        )
        value = int(point[field])
        totals[series] = value if cumulative else totals.get(series, 0) + value


def _by_label(totals: Mapping[_Series, int], label: str) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for (_, attributes, _), value in totals.items():
        sums[json.loads(attributes).get(label, "unknown")] += value
    return dict(sums)


def _last(
    levels: dict[tuple[str, str], tuple[int, float]], process: str, data: Mapping[str, Any]
) -> None:
    """Keep the latest point of each series."""
    for point in data["dataPoints"]:
        series = (process, json.dumps(_attributes(point), sort_keys=True))
        at_ns = int(point["timeUnixNano"])
        value = _number(point)
        if math.isfinite(value) and at_ns >= levels.get(series, (0, 0.0))[0]:
            levels[series] = (at_ns, value)


def _number(point: Mapping[str, Any]) -> float:
    return float(point["asInt"] if "asInt" in point else point["asDouble"])


def _process(block: Mapping[str, Any]) -> str:
    """What tells processes apart in a resource: its instance id, or host and pid, or all of it."""
    attributes = _attributes(block.get("resource", {}))
    named = {name: attributes[name] for name in _IDENTITY if name in attributes}
    return json.dumps(named or attributes, sort_keys=True)


def _steps(attributes: Mapping[str, Any]) -> tuple[StepTime, ...]:
    columns = (names.PYTORCH_STEP_PHASES, names.PYTORCH_STEP_STARTS, names.PYTORCH_STEP_DURATIONS)
    rows = zip(*(attributes[column] for column in columns), strict=True)
    return tuple(StepTime(str(phase), float(start), float(time)) for phase, start, time in rows)


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {entry["key"]: _value(entry["value"]) for entry in holder.get("attributes", ())}


def _value(value: Mapping[str, Any]) -> Any:
    for kind, content in value.items():
        if kind == "intValue":
            return int(content)
        if kind == "doubleValue":
            return float(content)
        if kind == "arrayValue":
            return [_value(item) for item in content.get("values", ())]
        return content
    return None
