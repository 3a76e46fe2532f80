"""The exporters `warpspan_otlp` and the SDK's providers, in one process."""

from importlib.metadata import entry_points
from unittest import mock

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from warpspan.export import observe, otlp
from warpspan.export.otlp import WarpspanMetricExporter, WarpspanSpanExporter
from warpspan.export.otlp_logs import WarpspanLogExporter


def test_entry_points():
    """They are found by the name that OTEL_TRACES_EXPORTER and the others take."""
    found = {
        group: entry_points(group=f"opentelemetry_{group}_exporter", name="warpspan_otlp")
        for group in ("traces", "metrics", "logs")
    }
    assert {
        "traces": [WarpspanSpanExporter],
        "metrics": [WarpspanMetricExporter],
        "logs": [WarpspanLogExporter],
    } == {group: [one.load() for one in some] for group, some in found.items()}


def test_all_signals_of_the_sdk_share_one_helper(receiver):
    """Spans, metrics and logs of real providers; the helper ends with the last of them."""
    exporters = WarpspanSpanExporter(), WarpspanMetricExporter(), WarpspanLogExporter()
    channel = otlp.shared_channel()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(exporters[0]))
    meters = MeterProvider([PeriodicExportingMetricReader(exporters[1])], shutdown_on_exit=False)
    loggers = LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(BatchLogRecordProcessor(exporters[2]))
    tracers.get_tracer("test").start_span("a").end()
    meters.get_meter("test").create_counter("b").add(1)
    loggers.get_logger("test").emit(body="c")
    assert [True] * 3 == [one.force_flush() for one in (tracers, meters, loggers)]
    assert {"traces", "metrics", "logs"} == {kind for kind, _ in receiver.requests}
    pid = channel.helper_pid
    tracers.shutdown()
    meters.shutdown()
    assert pid == channel.helper_pid
    loggers.shutdown()
    assert channel.helper_pid is None
    assert channel is not otlp.shared_channel()


def test_its_own_losses_are_metrics(receiver):
    """Dropped items by signal and reason, and what waits."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    observe._created = False
    observe._channels.clear()
    with mock.patch.object(observe, "get_meter", provider.get_meter):
        exporter = WarpspanSpanExporter()
    assert reader.get_metrics_data() is None  # a program that exports nothing says nothing
    exporter.export([])
    otlp.shared_channel().dropped["traces", "backlog"] = 3
    otlp.shared_channel().sliced(2_000_000)
    found = {
        metric.name: [(point.value, dict(point.attributes)) for point in metric.data.data_points]
        for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    }
    labels = {"warpspan.signal": "traces", "warpspan.drop.reason": "backlog"}
    assert {
        "warpspan.export.dropped": [(3, labels)],
        "warpspan.export.backlog": [(0, {})],
        "warpspan.export.slice.max": [(0.002, {})],
    } == found
    exporter.shutdown()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier/pigeon"},
            "OTEL_EXPORTER_OTLP_PROTOCOL='carrier/pigeon' is not supported: "
            "give grpc or http/protobuf",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "pigeon"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL='pigeon' is not supported: "
            "give grpc or http/protobuf",
        ),
    ],
)
def test_an_unknown_protocol(receiver, monkeypatch, variables, sentence):
    """It is refused when the exporter is made, in one sentence."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError) as refused:
        WarpspanSpanExporter()
    assert sentence == str(refused.value)


def test_a_protocol_that_is_not_installed(monkeypatch):
    """The sentence has the command."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError) as refused:
        WarpspanSpanExporter()
    assert (
        "the exporter warpspan_otlp needs opentelemetry.exporter.otlp.proto.grpc: "
        "pip install opentelemetry-exporter-otlp-proto-grpc"
    ) == str(refused.value)
