"""What arrives by the helper equals what the official exporter sends, field by field."""

import os
from unittest import mock

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
pytest.importorskip("grpc")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from opentelemetry import trace  # noqa: E402
from opentelemetry._logs import LogRecord, SeverityNumber  # noqa: E402
from opentelemetry.attributes import BoundedAttributes  # noqa: E402
from opentelemetry.sdk._logs import ReadableLogRecord  # noqa: E402
from opentelemetry.sdk.metrics import Exemplar  # noqa: E402
from opentelemetry.sdk.metrics.export import (  # noqa: E402
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
from opentelemetry.sdk.resources import Resource  # noqa: E402
from opentelemetry.sdk.trace import Event, ReadableSpan  # noqa: E402
from opentelemetry.sdk.util import BoundedList  # noqa: E402
from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: E402

from tests.support.otlp import grpc_receiver, http_receiver  # noqa: E402
from warpspan.export import official  # noqa: E402
from warpspan.export.channel import Channel  # noqa: E402
from warpspan.export.otlp import WarpspanMetricExporter, WarpspanSpanExporter  # noqa: E402
from warpspan.export.otlp_logs import WarpspanLogExporter  # noqa: E402

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
INT64 = st.integers(-(2**63), 2**63 - 1)
UINT32 = st.integers(0, 2**32 - 1)
TIMES = st.integers(0, 2**63 - 1)
FLOATS = st.floats(allow_nan=False)  # a NaN equals nothing, not even itself


class Word(str):
    """A str that is not exactly one, as an Enum of str is."""


class Level(int):
    """An int that is not exactly one."""


class Share(float):
    """A float that is not exactly one, as numpy.float64 is."""


ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    INT64,
    FLOATS,
    TEXT,
    st.binary(max_size=12),
    TEXT.map(Word),
    INT64.map(Level),
    FLOATS.map(Share),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def attributes(draw):
    values = draw(st.dictionaries(NAMES, VALUES, max_size=5))
    return BoundedAttributes(draw(st.sampled_from([2, 128])), values)


@st.composite
def plain_attributes(draw):
    return draw(st.one_of(st.none(), attributes()))


@st.composite
def contexts(draw):
    keys = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True)
    state = draw(st.dictionaries(keys, st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True), max_size=3))
    return trace.SpanContext(
        draw(st.integers(1, 2**128 - 1)),
        draw(st.integers(1, 2**64 - 1)),
        draw(st.booleans()),
        trace.TraceFlags(draw(st.integers(0, 255))),
        trace.TraceState(list(state.items())),
    )


resources = st.builds(Resource, attributes(), TEXT)
scopes = st.builds(InstrumentationScope, NAMES, st.one_of(st.none(), TEXT), TEXT, attributes())


@st.composite
def bounded(draw, items):
    return BoundedList.from_seq(draw(st.sampled_from([1, 128])), draw(st.lists(items, max_size=3)))


@st.composite
def statuses(draw):
    code = draw(st.sampled_from(trace.StatusCode))
    return trace.Status(code, draw(TEXT) if code is trace.StatusCode.ERROR else None)


SPANS = st.builds(
    ReadableSpan,
    name=st.one_of(TEXT, TEXT.map(Word)),
    context=contexts(),
    parent=st.one_of(st.none(), contexts()),
    resource=resources,
    attributes=attributes(),
    events=bounded(st.builds(Event, TEXT, plain_attributes(), TIMES)),
    links=bounded(st.builds(trace.Link, contexts(), plain_attributes())),
    kind=st.sampled_from(trace.SpanKind),
    status=statuses(),
    start_time=TIMES,
    end_time=TIMES,
    instrumentation_scope=st.one_of(st.none(), scopes),
)

NUMBERS = st.one_of(INT64, FLOATS, FLOATS.map(Share))
EXEMPLARS = st.lists(
    st.builds(
        Exemplar,
        plain_attributes(),
        NUMBERS,
        TIMES,
        st.one_of(st.none(), st.integers(0, 2**64 - 1)),
        st.one_of(st.none(), st.integers(0, 2**128 - 1)),
    ),
    max_size=2,
)
COUNTS = st.integers(0, 2**63 - 1)
BUCKETS = st.builds(Buckets, st.integers(-100, 100), st.lists(COUNTS, max_size=4))
NUMBER_POINTS = st.lists(
    st.builds(NumberDataPoint, plain_attributes(), TIMES, TIMES, NUMBERS, EXEMPLARS), max_size=20
)
HISTOGRAM_POINTS = st.lists(
    st.builds(
        HistogramDataPoint,
        plain_attributes(),
        TIMES,
        TIMES,
        COUNTS,
        NUMBERS,
        st.lists(COUNTS, max_size=4),
        st.lists(FLOATS, max_size=3),
        NUMBERS,
        NUMBERS,
        EXEMPLARS,
    ),
    max_size=3,
)
EXPONENTIAL_POINTS = st.lists(
    st.builds(
        ExponentialHistogramDataPoint,
        plain_attributes(),
        TIMES,
        TIMES,
        COUNTS,
        NUMBERS,
        st.integers(-10, 20),
        COUNTS,
        BUCKETS,
        BUCKETS,
        st.integers(0, 1),
        NUMBERS,
        NUMBERS,
        EXEMPLARS,
    ),
    max_size=3,
)
ORDER = st.sampled_from([AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE])
DATA = st.one_of(
    st.builds(Sum, NUMBER_POINTS, ORDER, st.booleans()),
    st.builds(Gauge, NUMBER_POINTS),
    st.builds(Histogram, HISTOGRAM_POINTS, ORDER),
    st.builds(ExponentialHistogram, EXPONENTIAL_POINTS, ORDER),
)
METRICS = st.builds(Metric, NAMES, st.one_of(st.none(), TEXT), st.one_of(st.none(), TEXT), DATA)
COLLECTIONS = st.builds(
    MetricsData,
    st.lists(
        st.builds(
            ResourceMetrics,
            resources,
            st.lists(
                st.builds(ScopeMetrics, scopes, st.lists(METRICS, max_size=3), TEXT), max_size=2
            ),
            TEXT,
        ),
        max_size=2,
        unique_by=lambda one: one.resource,
    ),
)


@st.composite
def log_records(draw):
    record = LogRecord(
        timestamp=draw(st.one_of(st.none(), TIMES)),
        observed_timestamp=draw(TIMES),
        severity_text=draw(st.one_of(st.none(), TEXT)),
        severity_number=draw(st.one_of(st.none(), st.sampled_from(SeverityNumber))),
        body=draw(VALUES),
        attributes=draw(attributes()),
        event_name=draw(st.one_of(st.none(), NAMES)),
    )
    record.trace_id = draw(st.integers(0, 2**128 - 1))
    record.span_id = draw(st.integers(0, 2**64 - 1))
    record.trace_flags = trace.TraceFlags(draw(st.integers(0, 255)))
    return ReadableLogRecord(record, draw(resources), draw(st.one_of(st.none(), scopes)))


@pytest.fixture(params=[http_receiver, grpc_receiver], scope="module")
def both(request):
    """A receiver, and for each signal ours and the official exporter that send to it."""
    with request.param() as receiver, mock.patch.dict(os.environ, receiver.environ):
        channel = Channel(os.environ)
        ours = {
            "traces": WarpspanSpanExporter(channel),
            "metrics": WarpspanMetricExporter(channel),
            "logs": WarpspanLogExporter(channel),
        }
        theirs = {signal: official.make(official.OTLP, signal, os.environ) for signal in ours}
        yield receiver, ours, theirs
        for exporter in (*ours.values(), *theirs.values()):
            exporter.shutdown()


def assert_equal(both, signal, items):
    receiver, ours, theirs = both
    del receiver.requests[:]
    # NoScope of the SDK's own threads an export returns when it was made.
    results = [exporter.export(items).name for exporter in (theirs[signal], ours[signal])]
    assert ["SUCCESS", "SUCCESS"] == results
    expected, actual = receiver.got(signal)
    assert expected == actual


common = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@common
@given(st.lists(SPANS, min_size=1, max_size=20))
def test_spans(both, spans):
    """Every field of every span, of several slices."""
    assert_equal(both, "traces", spans)


@common
@given(COLLECTIONS)
def test_metrics(both, collection):
    """Every kind of metric, with exemplars, of several slices."""
    assert_equal(both, "metrics", collection)


@common
@given(st.lists(log_records(), min_size=1, max_size=20))
def test_logs(both, records):
    """Every field of every log record."""
    assert_equal(both, "logs", records)
