"""Finished spans, log records and metric points as plain values, in slices of bounded work.

Runs in the threads of the SDK's processors, beside the inferences: no slice holds the GIL for
more than about half a millisecond. `unpack` is the other half, in the helper.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    ExponentialHistogram,
    Gauge,
    Histogram,
    MetricsData,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext

from warpspan.export import wire

#: Items of a slice. A span of an inference takes about 5 µs of processor time (the official
#: encoder takes 46), and twice to four times that where threads compete for the GIL.
SLICE = 32

_logger = logging.getLogger("warpspan")

# Of exactly these types, since marshal writes what merely has a buffer, numpy.float64 for one
# (which is a float and so a valid attribute), as bytes.
_ATOMS = frozenset({bool, bytes, float, int, str, type(None)})
_STRINGS = frozenset({str})

_KINDS: tuple[tuple[type, str], ...] = (
    (Sum, "sum"),
    (Gauge, "gauge"),
    (Histogram, "histogram"),
    (ExponentialHistogram, "exponential_histogram"),
)


class Packer:
    """Packs the items of one exporter; resources and scopes once each."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, bytes]] = {}

    def spans(self, spans: Sequence[ReadableSpan]) -> bytes:
        """A slice of finished spans."""
        tables = _Tables(self)
        rows = [self._span(span, tables) for span in spans]
        return wire.dumps((tables.resources, tables.scopes, rows))

    def logs(self, records: Sequence[Any]) -> bytes:
        """A slice of log records."""
        tables = _Tables(self)
        rows = [self._log(record, tables) for record in records]
        return wire.dumps((tables.resources, tables.scopes, rows))

    def metrics(self, data: MetricsData) -> Iterator[tuple[bytes, int]]:
        """All slices of a collection, and how many points are in each.

        A slice is a list of rows: a resource, a scope of it, a metric of that, its points.
        """
        rows: list[tuple[Any, ...]] = []
        points = 0
        for of_resource in data.resource_metrics:
            resource = self.resource(of_resource.resource)
            rows.append(("resource", resource, plain(of_resource.schema_url)))
            for of_scope in of_resource.scope_metrics:
                rows.append(("scope", self.scope(of_scope.scope), plain(of_scope.schema_url)))
                for metric in of_scope.metrics:
                    found = metric.data
                    kind = next(name for cls, name in _KINDS if isinstance(found, cls))
                    temporality = getattr(found, "aggregation_temporality", None)
                    rows.append(
                        (
                            "metric",
                            plain(metric.name),
                            plain(metric.description),
                            plain(metric.unit),
                            kind,
                            None if temporality is None else int(temporality),
                            getattr(found, "is_monotonic", None),
                        )
                    )
                    pack = _POINTS[kind]
                    for point in found.data_points:
                        rows.append(pack(point))
                        points += 1
                        if points == SLICE:
                            yield wire.dumps(rows), points
                            rows, points = [], 0
        yield wire.dumps(rows), points

    def resource(self, resource: Resource) -> bytes:
        """A resource, packed once."""
        known = self._known.get(id(resource))
        if known is None:
            packed = wire.dumps((_attributes(resource.attributes), plain(resource.schema_url)))
            known = self._remember(resource, packed)
        return known[1]

    def scope(self, scope: InstrumentationScope | None) -> bytes:
        """An instrumentation scope, packed once."""
        known = self._known.get(id(scope))
        if known is None:
            packed = wire.dumps(
                None
                if scope is None
                else (
                    plain(scope.name),
                    plain(scope.version),
                    plain(scope.schema_url),
                    _attributes(scope.attributes),
                )
            )
            known = self._remember(scope, packed)
        return known[1]

    def _remember(self, thing: object, packed: bytes) -> tuple[object, bytes]:
        if len(self._known) >= 1024:
            self._known.clear()
        # With the thing itself: its id is its own for as long as it lives.
        entry = self._known[id(thing)] = (thing, packed)
        return entry

    @staticmethod
    def _span(span: ReadableSpan, tables: _Tables) -> tuple[Any, ...]:
        parent, status, events, links = span.parent, span.status, span.events, span.links
        return (
            plain(span.name),
            _context(span.context),
            None if parent is None else _context(parent),
            span.kind.value,
            span.start_time,
            span.end_time,
            _attributes(span.attributes),
            span.dropped_attributes,
            [
                (
                    plain(event.name),
                    event.timestamp,
                    _attributes(event.attributes),
                    event.dropped_attributes,
                )
                for event in events
            ]
            if events
            else None,
            span.dropped_events,
            [
                (_context(link.context), _attributes(link.attributes), link.dropped_attributes)
                for link in links
            ]
            if links
            else None,
            span.dropped_links,
            None if status is None else (status.status_code.value, plain(status.description)),
            tables.resource(span.resource),
            tables.scope(span.instrumentation_scope),
        )

    @staticmethod
    def _log(log: Any, tables: _Tables) -> tuple[Any, ...]:
        record = log.log_record
        try:
            body = plain(record.body)
        except TypeError:
            body = str(record.body)
        return (
            record.timestamp,
            record.observed_timestamp,
            record.trace_id,
            record.span_id,
            int(record.trace_flags or 0),
            plain(record.severity_text),
            getattr(record.severity_number, "value", None),
            body,
            _attributes(record.attributes),
            log.dropped_attributes,
            plain(record.event_name),
            tables.resource(log.resource),
            tables.scope(log.instrumentation_scope),
        )


class _Tables:
    """The resources and scopes of one slice, each once; rows hold their places."""

    def __init__(self, packer: Packer) -> None:
        self.resources: list[bytes] = []
        self.scopes: list[bytes] = []
        self._packer = packer
        self._places: dict[int, int] = {}

    def resource(self, resource: Resource) -> int:
        place = self._places.get(id(resource))
        if place is None:
            place = self._places[id(resource)] = len(self.resources)
            self.resources.append(self._packer.resource(resource))
        return place

    def scope(self, scope: InstrumentationScope | None) -> int:
        place = self._places.get(id(scope))
        if place is None:
            place = self._places[id(scope)] = len(self.scopes)
            self.scopes.append(self._packer.scope(scope))
        return place


def plain(value: Any) -> Any:
    """The value in exact built-in types, by the order in which the official encoder looks.

    Raises:
        TypeError: OTLP has no such value.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is tuple and _ATOMS.issuperset(map(type, value)):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytes):
        return b"".join((value, b""))
    if isinstance(value, Sequence):
        return tuple(map(plain, value))
    if isinstance(value, Mapping):
        return {str.__str__(str(key)): plain(item) for key, item in value.items()}
    raise TypeError(f"Invalid type {type(value)} of value {value}")


def _attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not attributes:
        return None
    copy = getattr(attributes, "copy", None)  # the SDK's own copies at C speed
    values: dict[str, Any] = dict(attributes) if copy is None else copy()
    if not _STRINGS.issuperset(map(type, values)):
        values = {plain(key): value for key, value in values.items()}
    for key in [key for key, value in values.items() if type(value) not in _ATOMS]:
        try:
            values[key] = plain(values[key])
        except TypeError as error:  # as the official encoder: the others are sent
            _logger.error("Failed to encode key %s: %s", key, error)  # noqa: TRY400
            del values[key]
    return values


def _context(context: SpanContext) -> tuple[Any, ...]:
    state = context.trace_state
    return (
        context.trace_id,
        context.span_id,
        context.is_remote,
        int(context.trace_flags),
        tuple(state.items()) if state else (),
    )


def _number(value: Any) -> Any:
    """A measured value. numpy's and torch's scalars are among them."""
    if type(value) in _ATOMS:
        return value
    return int(value) if isinstance(value, int) else float(value)


def _exemplars(exemplars: Sequence[Exemplar]) -> list[tuple[Any, ...]]:
    return [
        (
            _attributes(exemplar.filtered_attributes),
            _number(exemplar.value),
            exemplar.time_unix_nano,
            exemplar.span_id,
            exemplar.trace_id,
        )
        for exemplar in exemplars
    ]


def _number_point(point: Any) -> tuple[Any, ...]:
    return (
        _attributes(point.attributes),
        point.start_time_unix_nano,
        point.time_unix_nano,
        _number(point.value),
        _exemplars(point.exemplars),
    )


def _histogram_point(point: Any) -> tuple[Any, ...]:
    return (
        _attributes(point.attributes),
        point.start_time_unix_nano,
        point.time_unix_nano,
        _number(point.count),
        _number(point.sum),
        tuple(map(_number, point.bucket_counts)),
        tuple(map(_number, point.explicit_bounds)),
        _number(point.min),
        _number(point.max),
        _exemplars(point.exemplars),
    )


def _exponential_point(point: Any) -> tuple[Any, ...]:
    return (
        _attributes(point.attributes),
        point.start_time_unix_nano,
        point.time_unix_nano,
        _number(point.count),
        _number(point.sum),
        point.scale,
        point.zero_count,
        (point.positive.offset, tuple(point.positive.bucket_counts)),
        (point.negative.offset, tuple(point.negative.bucket_counts)),
        point.flags,
        _number(point.min),
        _number(point.max),
        _exemplars(point.exemplars),
    )


_POINTS = {
    "sum": _number_point,
    "gauge": _number_point,
    "histogram": _histogram_point,
    "exponential_histogram": _exponential_point,
}
