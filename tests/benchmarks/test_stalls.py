"""The benchmark of stalls: its arithmetic, its sink and its tables."""

import multiprocessing
import threading

import pytest

pytest.importorskip("grpc")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as ByGrpc
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as ByHttp
from opentelemetry.sdk.trace import TracerProvider

from benchmarks.stalls import command, sink, table
from benchmarks.stalls.services import Segment, Services


def test_a_row():
    """Percentiles are values that occurred; added is over the worst without telemetry."""
    base = [Segment([2_000, 1_000], 0.0, 0.0, 0.0, 0, 0)]
    segments = [
        Segment([i * 1_000 for i in range(1, 501)], 0.5, 0.2, 0.1, 2**20, 2**21),
        Segment([i * 1_000 for i in range(501, 1001)], 0.5, 0.2, 0.1, 2**21, 2**22),
    ]
    assert table.Row(
        service="asyncio",
        variant="helper",
        inferences=1000,
        p50_us=501.0,
        p99_us=991.0,
        p999_us=1000.0,
        max_us=1000.0,
        max_added_us=998.0,
        process_us=1000.0,
        export_us=400.0,
        helper_us=200.0,
        rss_mib=2.0,
        helper_rss_mib=4.0,
        lost=3,
    ) == command._row("asyncio", "helper", segments, base, 3)


def test_the_sink_counts_spans_of_both_protocols():
    """Each span once, from when it was asked before."""
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=sink.serve, args=(theirs,))
    thread.start()
    http_port, grpc_port = ours.recv()
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    spans = [tracer.start_span("a"), tracer.start_span("b")]
    for span in spans:
        span.end()
    for exporter in (
        ByHttp(f"http://127.0.0.1:{http_port}/v1/traces"),
        ByGrpc(f"http://127.0.0.1:{grpc_port}"),
    ):
        exporter.export(spans)
        ours.send("count")
        assert 2 == ours.recv()
        exporter.shutdown()
    ours.send(None)
    thread.join()


@pytest.mark.parametrize("service", ["launch-bound", "8 threads", "asyncio"])
def test_every_service_gives_latencies(service):
    """Of at least one inference each."""
    latencies = Services().all[service](0.5)
    assert latencies
    assert min(latencies) > 0


def test_the_tables_name_every_service_and_variant(capsys, monkeypatch):
    """And the machine that the figures hold for."""
    rows = [
        table.Row(service, variant, 1, *[float(i) for i in range(10)], 0)
        for service in command._NAMES
        for variant in command.VARIANTS
    ]
    monkeypatch.setenv("COLUMNS", "144")
    table.render(rows, {"cores": 2})
    printed = capsys.readouterr().out
    wanted = ["cores 2", *command._NAMES, *command.VARIANTS]
    assert [] == [name for name in wanted if name not in printed]
