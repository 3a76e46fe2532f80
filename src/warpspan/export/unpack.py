"""The SDK's objects again, from what `pack` made of them, for the official exporters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from warpspan.export import wire

T = TypeVar("T")


class _Attributes(BoundedAttributes):
    """Attributes as they are: checked, shortened and counted where they were set."""

    def __init__(self, values: dict[str, Any] | None, dropped: int = 0) -> None:
        super().__init__()
        self._dict = values or {}
        self.dropped = dropped


class _Resource(Resource):
    """A resource that is hashed once, not once a span as the encoders ask for it."""

    def __init__(self, values: dict[str, Any] | None, schema_url: str) -> None:
        super().__init__({}, schema_url)
        self._attributes = _Attributes(values)
        self._hash = super().__hash__()

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    def __hash__(self) -> int:
        return self._hash


class _Span(ReadableSpan):
    """A finished span that remembers what was dropped from it."""

    def __init__(self, dropped: tuple[int, int, int], **fields: Any) -> None:
        super().__init__(**fields)
        self._dropped = dropped

    @property
    def dropped_attributes(self) -> int:
        return self._dropped[0]

    @property
    def dropped_events(self) -> int:
        return self._dropped[1]

    @property
    def dropped_links(self) -> int:
        return self._dropped[2]


class Unpacker:
    """Rebuilds batches; equal resources and scopes are the same object."""

    def __init__(self) -> None:
        self._known: dict[bytes, Any] = {}

    def spans(self, slices: Iterable[bytes]) -> list[ReadableSpan]:
        """The spans of a batch."""
        spans: list[ReadableSpan] = []
        for payload in slices:
            tables, rows = self._tables(payload)
            spans.extend(self._span(row, *tables) for row in rows)
        return spans

    def logs(self, slices: Iterable[bytes]) -> list[Any]:
        """The log records of a batch."""
        records: list[Any] = []
        for payload in slices:
            tables, rows = self._tables(payload)
            records.extend(self._log(row, *tables) for row in rows)
        return records

    def metrics(self, slices: Iterable[bytes]) -> MetricsData:
        """One collection of metrics."""
        resources: list[ResourceMetrics] = []
        scopes: list[ScopeMetrics] = []
        metrics: list[Metric] = []
        points: list[Any] = []
        make: Any = None
        for payload in slices:
            for row in wire.loads(payload):
                if row[0] == "resource":
                    scopes = []
                    resources.append(ResourceMetrics(self.resource(row[1]), scopes, row[2]))
                elif row[0] == "scope":
                    metrics = []
                    scopes.append(ScopeMetrics(self.scope(row[1]), metrics, row[2]))  # type: ignore[arg-type]
                elif row[0] == "metric":
                    points = []
                    make = _POINTS[row[4]]
                    metrics.append(_whole(Metric, row[1:4], _data(points, *row[4:])))
                else:
                    points.append(make(row))
        return MetricsData(resources)

    def resource(self, packed: bytes) -> Resource:
        """A resource."""
        found: Resource | None = self._known.get(packed)
        if found is None:
            found = self._remember(packed, _Resource(*wire.loads(packed)))
        return found

    def scope(self, packed: bytes) -> InstrumentationScope | None:
        """An instrumentation scope."""
        fields = wire.loads(packed)
        if fields is None:
            return None
        found: InstrumentationScope | None = self._known.get(packed)
        if found is None:
            found = InstrumentationScope(*fields[:3])
            found._attributes = _Attributes(fields[3])
            self._remember(packed, found)
        return found

    def _remember(self, packed: bytes, thing: Any) -> Any:
        if len(self._known) >= 1024:
            self._known.clear()
        self._known[packed] = thing
        return thing

    def _tables(self, payload: bytes) -> tuple[tuple[list[Any], list[Any]], list[Any]]:
        resources, scopes, rows = wire.loads(payload)
        return (list(map(self.resource, resources)), list(map(self.scope, scopes))), rows

    @staticmethod
    def _span(row: Sequence[Any], resources: list[Any], scopes: list[Any]) -> ReadableSpan:
        (
            name,
            context,
            parent,
            kind,
            start,
            end,
            attributes,
            dropped_attributes,
            events,
            dropped_events,
            links,
            dropped_links,
            status,
            resource,
            scope,
        ) = row
        return _Span(
            (dropped_attributes, dropped_events, dropped_links),
            name=name,
            context=_context(context),
            parent=None if parent is None else _context(parent),
            resource=resources[resource],
            attributes=attributes,
            events=[
                Event(event, _Attributes(values, dropped), time)
                for event, time, values, dropped in events or ()
            ],
            links=[
                Link(_context(of), _Attributes(values, dropped))
                for of, values, dropped in links or ()
            ],
            kind=SpanKind(kind),
            status=_status(status),
            start_time=start,
            end_time=end,
            instrumentation_scope=scopes[scope],
        )

    @staticmethod
    def _log(row: Sequence[Any], resources: list[Any], scopes: list[Any]) -> Any:
        # Only a process that exports logs needs an SDK that has these.
        from opentelemetry._logs import LogRecord, SeverityNumber
        from opentelemetry.sdk._logs import ReadableLogRecord

        time, observed, trace_id, span_id, flags, text, severity, body, values = row[:9]
        record = LogRecord(
            timestamp=time,
            observed_timestamp=observed,
            severity_text=text,
            severity_number=None if severity is None else SeverityNumber(severity),
            body=body,
            attributes=_Attributes(values, row[9]),
            event_name=row[10],
        )
        record.trace_id, record.span_id = trace_id, span_id
        record.trace_flags = TraceFlags(flags)
        return ReadableLogRecord(record, resources[row[11]], scopes[row[12]])


def _context(context: Sequence[Any]) -> SpanContext:
    trace_id, span_id, is_remote, flags, state = context
    return SpanContext(trace_id, span_id, is_remote, TraceFlags(flags), TraceState(state))


def _status(status: tuple[int, str | None] | None) -> Status | None:
    if status is None:
        return None
    code, description = status
    made = Status(StatusCode(code))
    made._description = description  # also where the SDK's own check would take it off
    return made


def _data(points: list[Any], kind: str, temporality: int, monotonic: bool | None) -> Any:
    if kind == "gauge":
        return Gauge(points)
    order = AggregationTemporality(temporality)
    if kind == "sum":
        return Sum(points, order, bool(monotonic))
    return (Histogram if kind == "histogram" else ExponentialHistogram)(points, order)


def _exemplars(rows: Iterable[Any]) -> list[Exemplar]:
    return [Exemplar(*row) for row in rows]


def _number_point(row: Sequence[Any]) -> NumberDataPoint:
    return _whole(NumberDataPoint, row[:4], _exemplars(row[4]))


def _histogram_point(row: Sequence[Any]) -> HistogramDataPoint:
    return _whole(HistogramDataPoint, row[:9], _exemplars(row[9]))


def _exponential_point(row: Sequence[Any]) -> ExponentialHistogramDataPoint:
    buckets = Buckets(*row[7]), Buckets(*row[8])
    return _whole(ExponentialHistogramDataPoint, row[:7], *buckets, *row[9:12], _exemplars(row[12]))


def _whole(cls: Callable[..., T], first: Sequence[Any], *rest: Any) -> T:
    return cls(*first, *rest)


_POINTS = {
    "sum": _number_point,
    "gauge": _number_point,
    "histogram": _histogram_point,
    "exponential_histogram": _exponential_point,
}
