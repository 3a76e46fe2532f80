"""A record becomes one span and its metric points, whole."""

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from warpspan import guard
from warpspan.emit.emitter import Emitter
from warpspan.records import (
    Cache,
    CacheState,
    Device,
    DeviceState,
    Inference,
    Input,
    Memory,
    Model,
    Timing,
)

RECORD = Inference(
    operation="forward",
    start_ns=1_000,
    duration_s=0.5,
    device=Device("cuda", 0, "GPU-1"),
    model=Model("BertModel", 10),
    input=Input(batch_size=8, sequence_length=128, shape=(8, 128)),
    timing=Timing(
        cpu_time_s=0.1,
        device_time_s=0.4,
        queue_time_s=0.01,
        idle_time_s=0.2,
        concurrency=1,
        gc_time_s=0.001,
        gc_count=2,
    ),
    memory=Memory(peak_bytes=100),
    cache=Cache(type="dynamic", size_bytes=4096, increase_bytes=512),
)
LABELS = RECORD.start_attributes()


class Finisher:
    def __init__(self):
        self.dropped = {}
        self.waiting = 5

    def longest_slice_s(self):
        return 0.0004


class Pipeline:
    def __init__(self, sampler=None):
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(sampler=sampler)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meter_provider = MeterProvider([self.reader])
        self.telemetry = Emitter("1.2.3", self.tracer_provider, self.meter_provider)
        self.finisher = Finisher()
        self.dropped = self.finisher.dropped
        self.telemetry.observe(
            lambda: [DeviceState(RECORD.device, 2, 30, 40)],
            self.finisher,
            list,
            lambda: [CacheState("BertModel", RECORD.device, 8192, 2, 0.75)],
            dict,
            hardware=True,
        )

    def emit(self, record=RECORD):
        opened = self.telemetry.start("forward BertModel", LABELS, record.start_ns)
        self.telemetry.leave(opened)
        self.telemetry.record_metrics(opened, record)
        self.telemetry.end_span(opened, record)
        return opened

    def points(self):
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: (metric.unit, list(metric.data.data_points))
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
        }


@pytest.fixture
def pipeline():
    guard.forget()
    yield Pipeline()
    guard.forget()


def test_the_whole_span(pipeline):
    """Name, kind, scope, times, status and every attribute."""
    pipeline.emit()
    (span,) = pipeline.exporter.get_finished_spans()
    assert "forward BertModel" == span.name
    assert SpanKind.INTERNAL is span.kind
    assert ("warpspan", "1.2.3") == (
        span.instrumentation_scope.name,
        span.instrumentation_scope.version,
    )
    assert (1_000, 500_001_000) == (span.start_time, span.end_time)
    assert StatusCode.UNSET is span.status.status_code
    assert None is span.parent
    assert () == span.events
    assert LABELS | RECORD.end_attributes() == dict(span.attributes)


def test_an_error_sets_the_status_and_its_type(pipeline):
    """Without a description: the message of an exception may hold user data."""
    pipeline.emit(RECORD._replace(error_type="ValueError"))
    (span,) = pipeline.exporter.get_finished_spans()
    assert StatusCode.ERROR is span.status.status_code
    assert None is span.status.description
    assert "ValueError" == span.attributes["error.type"]


def test_the_span_is_current_between_enter_and_leave(pipeline):
    """What the model calls inside becomes its child."""
    opened = pipeline.telemetry.start("forward BertModel", LABELS, 0)
    assert trace.get_current_span() is trace.INVALID_SPAN
    pipeline.telemetry.enter(opened)
    assert trace.get_current_span() is opened[0]
    pipeline.telemetry.leave(opened)
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_leaving_in_another_context_touches_nothing(pipeline, caplog):
    """A generator's `with` may end in a context where our span was never current."""
    opened = pipeline.telemetry.start("forward BertModel", LABELS, 0)
    pipeline.telemetry.enter(opened)
    elsewhere = otel_context.attach(otel_context.Context())
    pipeline.telemetry.leave(opened)
    assert {} == otel_context.get_current()
    otel_context.detach(elsewhere)
    pipeline.telemetry.leave(opened)
    assert [] == caplog.records


def test_the_metrics(pipeline):
    """Each value of the record once, with the labels of the inference and nothing else."""
    pipeline.emit()
    points = pipeline.points()
    histograms = {
        name: (unit, point.sum, point.count, dict(point.attributes))
        for name, (unit, (point, *_)) in points.items()
        if hasattr(point, "bucket_counts")
    }
    assert histograms == {
        "pytorch.inference.duration": ("s", 0.5, 1, LABELS),
        "pytorch.inference.device.duration": ("s", 0.4, 1, LABELS),
        "pytorch.inference.device.queue.duration": ("s", 0.01, 1, LABELS),
        "pytorch.inference.batch.size": ("{item}", 8, 1, LABELS),
        "pytorch.inference.memory.peak": ("By", 100, 1, LABELS),
        "pytorch.inference.kv_cache.size": ("By", 4096, 1, LABELS),
    }
    sums = {
        name: (unit, [(point.value, dict(point.attributes)) for point in data])
        for name, (unit, data) in points.items()
        if not hasattr(data[0], "bucket_counts")
    }
    device = {"pytorch.device.type": "cuda", "pytorch.device.index": 0, "hw.id": "GPU-1"}
    model = {"pytorch.model.name": "BertModel", **device}
    assert sums == {
        "pytorch.inference.idle.time": ("s", [(0.2, LABELS)]),
        "pytorch.inference.kv_cache.growth": ("By", [(512, LABELS)]),
        "pytorch.kv_cache.usage": ("By", [(8192, model)]),
        "pytorch.kv_cache.count": ("{cache}", [(2, model)]),
        "pytorch.kv_cache.leak.score": ("1", [(0.75, model)]),
        "pytorch.inference.active": ("{inference}", [(2, device)]),
        "pytorch.memory.usage": (
            "By",
            [
                (30, device | {"pytorch.memory.state": "allocated"}),
                (40, device | {"pytorch.memory.state": "reserved"}),
            ],
        ),
        "warpspan.queue.size": ("{inference}", [(5, {})]),
        "warpspan.finisher.slice.max": ("s", [(0.0004, {})]),
    }


def test_exemplars_point_to_the_span(pipeline):
    """Although the finisher, and not the caller, records the metric."""
    opened = pipeline.emit()
    _, (point,) = pipeline.points()["pytorch.inference.duration"]
    context = opened[0].get_span_context()
    assert [(context.trace_id, context.span_id)] == [
        (exemplar.trace_id, exemplar.span_id) for exemplar in point.exemplars
    ]


def test_running_out_of_memory_is_counted(pipeline):
    """With the class of the error as a label."""
    pipeline.emit(RECORD._replace(error_type="torch.OutOfMemoryError"))
    _, (point,) = pipeline.points()["pytorch.inference.out_of_memory"]
    assert (1, LABELS | {"error.type": "torch.OutOfMemoryError"}) == (
        point.value,
        dict(point.attributes),
    )


def test_drops_and_faults_are_metrics(pipeline):
    """What is missing is known."""
    pipeline.dropped["queue_full"] = 3
    guard.faults["memory"] = 2
    points = pipeline.points()
    assert [(3, {"warpspan.drop.reason": "queue_full"})] == [
        (point.value, dict(point.attributes)) for point in points["warpspan.dropped"][1]
    ]
    assert [(2, {"warpspan.fault.origin": "memory"})] == [
        (point.value, dict(point.attributes)) for point in points["warpspan.faults"][1]
    ]


def test_an_unsampled_inference_is_still_counted():
    """Sampling thins out spans, not metrics."""
    pipeline = Pipeline(ALWAYS_OFF)
    opened = pipeline.emit()
    assert not opened[0].is_recording()
    assert () == pipeline.exporter.get_finished_spans()
    assert 1 == pipeline.points()["pytorch.inference.duration"][1][0].count


@pytest.mark.parametrize(
    "key",
    ["suppress_instrumentation", otel_context._SUPPRESS_INSTRUMENTATION_KEY],
    ids=["as the API has it", "as the SDK has it"],
)
def test_nothing_starts_where_instrumentation_is_suppressed(pipeline, key):
    """As exporters do for their own calls."""
    token = otel_context.attach(otel_context.set_value(key, True))
    assert None is pipeline.telemetry.start("forward BertModel", LABELS, 0)
    otel_context.detach(token)


def test_a_metric_that_fails_does_not_cost_the_span(pipeline, monkeypatch):
    """The fault is counted."""

    def fail(record, context):
        raise RuntimeError("no instrument")

    monkeypatch.setattr(pipeline.telemetry._recorder, "record", fail)
    pipeline.emit()
    assert 1 == len(pipeline.exporter.get_finished_spans())
    assert {"metrics": 1} == dict(guard.faults)


def test_flush_reaches_both_providers(pipeline, monkeypatch):
    """And tells when one of them did not make it."""
    asked = []
    monkeypatch.setattr(pipeline.tracer_provider, "force_flush", lambda ms: asked.append("traces"))
    monkeypatch.setattr(pipeline.meter_provider, "force_flush", lambda ms: False)
    assert not pipeline.telemetry.flush(5.0)
    assert ["traces"] == asked
    monkeypatch.setattr(pipeline.meter_provider, "force_flush", lambda ms: True)
    assert pipeline.telemetry.flush(5.0)


def test_without_an_sdk_nothing_is_recorded_and_nothing_fails():
    """The API's own providers have nothing to flush."""
    telemetry = Emitter("1.2.3")
    opened = telemetry.start("forward BertModel", LABELS, 0)
    telemetry.leave(opened)
    telemetry.record_metrics(opened, RECORD)
    telemetry.end_span(opened, RECORD)
    assert telemetry.flush(1.0)
