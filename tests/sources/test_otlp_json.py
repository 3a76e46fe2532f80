"""Reading inferences back from OTLP JSON lines."""

from __future__ import annotations

import io
import json

import pytest
from opentelemetry.exporter.otlp.json.file import FileMetricExporter, FileSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.support.records import full_inference
from warpspan.records import Device, Inference, Loop, StepTime
from warpspan.signals import instruments, names
from warpspan.sources import otlp_json
from warpspan.sources.otlp_json import OtlpJsonReader

FULL = full_inference(parent_span_id="")
PROCESS = '{"service.instance.id": "one"}'


def read(*lines: str | bytes) -> tuple[list[Inference], OtlpJsonReader]:
    data = b"".join(line.encode() if isinstance(line, str) else line for line in lines)
    reader = OtlpJsonReader(io.BytesIO(data))
    return list(reader), reader


def span_line(*attributes: dict[str, object], **span: object) -> str:
    """A line by the Collector: compact, camelCase, 64-bit integers as strings."""
    spans = [
        {
            "traceId": "0102030405060708090a0b0c0d0e0f10",
            "spanId": "0102030405060708",
            "name": "forward Net",
            "kind": 1,
            "startTimeUnixNano": "1000000000",
            "endTimeUnixNano": "3000000000",
            "attributes": [{"key": key, "value": value} for key, value in one.items()],
            "status": {},
            **span,
        }
        for one in attributes
    ]
    resource = {"attributes": [{"key": "service.instance.id", "value": {"stringValue": "one"}}]}
    block = {"resource": resource, "scopeSpans": [{"scope": {"name": "warpspan"}, "spans": spans}]}
    return json.dumps({"resourceSpans": [block]}, separators=(",", ":")) + "\n"


CPU = {
    "pytorch.operation.name": {"stringValue": "forward"},
    "pytorch.device.type": {"stringValue": "cpu"},
}
CPU_INFERENCE = Inference(
    operation="forward",
    start_ns=1_000_000_000,
    duration_s=2.0,
    device=Device("cpu"),
    trace_id="0102030405060708090a0b0c0d0e0f10",
    span_id="0102030405060708",
    process=PROCESS,
)


def test_official_exporter_round_trip():
    """Every value that the official exporter writes is read back as it was."""
    file = io.StringIO()
    provider = TracerProvider(resource=Resource({"service.instance.id": "one"}))
    provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(stream=file)))
    span = provider.get_tracer("warpspan").start_span(
        "forward BertModel",
        attributes=FULL.start_attributes() | FULL.end_attributes(),
        start_time=FULL.start_ns,
    )
    span.end(FULL.end_ns)
    context = span.get_span_context()

    inferences, reader = read(file.getvalue())

    expected = FULL._replace(
        trace_id=f"{context.trace_id:032x}", span_id=f"{context.span_id:016x}", process=PROCESS
    )
    assert [expected] == inferences
    assert (1, 1, 0) == (reader.lines, reader.inferences, reader.broken_spans)


def test_collector_line():
    """A line of the Collector's file exporter is read, plain numbers for integers as well."""
    line = span_line(CPU).replace('"1000000000"', "1000000000")
    assert [CPU_INFERENCE] == read(line)[0]


def test_parent_and_other_spans():
    """Spans of other instrumentations are counted, not taken for inferences."""
    http = {"http.request.method": {"stringValue": "GET"}}
    inferences, reader = read(span_line(http, CPU, parentSpanId="00000000000000aa"))
    assert [CPU_INFERENCE._replace(parent_span_id="00000000000000aa")] == inferences
    assert 1 == reader.other_spans


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ({"service.instance.id": "x", "service.name": "s"}, '{"service.instance.id": "x"}'),
        ({"host.name": "h", "process.pid": 7}, '{"host.name": "h", "process.pid": 7}'),
        ({"service.name": "s"}, '{"service.name": "s"}'),
        ({}, "{}"),
    ],
)
def test_process_identity(identity, expected):
    """A process is known by its instance id, else by host and pid, else by its whole resource."""
    message = json.loads(span_line(CPU))
    message["resourceSpans"][0]["resource"] = {
        "attributes": [
            {"key": key, "value": {"stringValue" if isinstance(value, str) else "intValue": value}}
            for key, value in identity.items()
        ]
    }
    inferences, _ = read(json.dumps(message))
    assert [expected] == [inference.process for inference in inferences]


def test_cut_last_line():
    """A last line that breaks off is told, and costs only itself."""
    inferences, reader = read(span_line(CPU), span_line(CPU)[:-20])
    assert [CPU_INFERENCE] == inferences
    assert (True, 0, 2) == (reader.cut, reader.broken_lines, reader.lines)


def test_last_line_without_newline():
    """A whole last line counts, even if its newline is missing."""
    inferences, reader = read(span_line(CPU).rstrip())
    assert [CPU_INFERENCE] == inferences
    assert not reader.cut


def test_foreign_lines():
    """What is not OTLP is skipped and counted: text, other JSON, deep nesting, wrong bytes."""
    inferences, reader = read(
        span_line(CPU),
        "\n",
        "hello\n",
        b"\xff\xfe\n",
        "[" * 100_000 + "\n",
        '{"a": 1}\n[1]\n3\n{"resourceSpans": 4}\n',
        span_line(CPU),
    )
    assert [CPU_INFERENCE, CPU_INFERENCE] == inferences
    assert (3, 4, 2) == (reader.broken_lines, reader.foreign_lines, reader.otlp_lines)


@pytest.mark.parametrize(
    "broken",
    [
        {"pytorch.device.type": {"intValue": "3"}},
        {"pytorch.operation.name": {"boolValue": True}},
        {"pytorch.model.name": {"arrayValue": {"values": [{"stringValue": "x"}]}}},
        {"pytorch.input.batch.size": {"stringValue": "8"}},
        {"pytorch.input.batch.size": {"intValue": "eight"}},
        {"pytorch.input.shape": {"intValue": "8"}},
        {"pytorch.device.time": {"doubleValue": "NaN"}},
        {"pytorch.device.time": {"doubleValue": "Infinity"}},
        {"pytorch.device.idle.time": {"doubleValue": -1}},
        {"pytorch.memory.peak.size": {"boolValue": True}},
        {"pytorch.device.type": None},
    ],
)
def test_broken_values(broken):
    """A span with a value of the wrong type, or a time that can't be, is skipped and counted."""
    inferences, reader = read(span_line(CPU | broken, CPU))
    assert [CPU_INFERENCE] == inferences
    assert 1 == reader.broken_spans


@pytest.mark.parametrize(
    "times",
    [
        {"endTimeUnixNano": "999999999"},
        {"startTimeUnixNano": "soon"},
        {"startTimeUnixNano": None},
    ],
)
def test_broken_times(times):
    """A span that ends before it starts, or has no times, is skipped and counted."""
    inferences, reader = read(span_line(CPU, **times))
    assert [] == inferences
    assert 1 == reader.broken_spans


@pytest.mark.parametrize(
    "line",
    [
        '{"resourceSpans": [3]}\n',
        '{"resourceSpans": [{"scopeSpans": [{"spans": 3}]}]}\n',
        '{"resourceSpans": [{"resource": 3, "scopeSpans": []}]}\n',
        '{"resourceMetrics": [3]}\n',
        '{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{}]}]}]}\n',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [3]}]}]}\n',
    ],
)
def test_malformed_structure(line):
    """OTLP whose inside has another shape costs only itself."""
    assert [CPU_INFERENCE] == read(line, span_line(CPU))[0]


def test_empty():
    """An empty file has no line."""
    inferences, reader = read()
    assert ([], 0) == (inferences, reader.lines)


@pytest.mark.parametrize(
    ("start", "name"),
    [(b"\x1f\x8b\x08", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh9", "bzip2")],
)
def test_compressed(start, name):
    """A compressed file is recognized and not read on."""
    inferences, reader = read(start + b"\n", span_line(CPU))
    assert ([], 1) == (inferences, reader.lines)
    assert name == reader.compression[0]


def test_binary():
    """A file that starts with binary data is not read on."""
    inferences, reader = read(b"\x7fELF\0\0\n", span_line(CPU))
    assert ([], 1, 1) == (inferences, reader.lines, reader.broken_lines)


def test_long_line(monkeypatch):
    """A line of any length is passed over without holding it in memory."""
    monkeypatch.setattr(otlp_json, "MAX_LINE_BYTES", 2000)
    inferences, reader = read(b"x" * 10_000 + b"\n", span_line(CPU))
    assert [CPU_INFERENCE] == inferences
    assert (2, 1) == (reader.lines, reader.broken_lines)


def metric_lines(collections: list[list[tuple[str, float]]]) -> list[str]:
    """Lines of the official exporter: an inference per model and duration before each one."""
    metric = instruments.PYTORCH_INFERENCE_DURATION
    file = io.StringIO()
    memory = InMemoryMetricReader()
    provider = MeterProvider([memory], resource=Resource({"service.instance.id": "one"}))
    histogram = provider.get_meter("warpspan").create_histogram(metric.name)
    dropped = provider.get_meter("warpspan").create_counter(instruments.WARPSPAN_DROPPED.name)
    exporter = FileMetricExporter(stream=file)
    for inferences in collections:
        for model, duration_s in inferences:
            histogram.record(duration_s, {names.PYTORCH_MODEL_NAME: model})
        dropped.add(1, {names.WARPSPAN_DROP_REASON: "queue_full"})
        exporter.export(memory.get_metrics_data())
    return file.getvalue().splitlines(keepends=True)


def test_cumulative_counts():
    """Each cumulative point replaces the one before it in its series."""
    _, reader = read(*metric_lines([[("A", 0.1), ("B", 0.1)], [("A", 0.1)]]))
    assert 3 == reader.counted
    assert {"queue_full": 2} == reader.dropped


def test_counts_of_processes_add_up():
    """Series of different processes are added, even if all else is the same."""
    lines = metric_lines([[("A", 0.1), ("A", 0.2)]])
    _, reader = read(*lines, *(line.replace('"one"', '"two"') for line in lines))
    assert 4 == reader.counted


def test_delta_counts():
    """Delta points, as some backends ask for, are added."""
    lines = [
        line.replace('"aggregationTemporality":2', '"aggregationTemporality":1')
        for line in metric_lines([[("A", 0.1), ("A", 0.2)]])
    ]
    _, reader = read(*lines, *lines)
    assert 4 == reader.counted


def level_line(name: str, at_ns: int, value: dict[str, object], model: str = "Llama") -> str:
    """A line with one point of an instrument that is read when metrics are collected."""
    point = {
        "timeUnixNano": str(at_ns),
        "attributes": [{"key": "pytorch.model.name", "value": {"stringValue": model}}],
        **value,
    }
    data = {"dataPoints": [point]}
    kind = {"gauge": data} if name.endswith("score") else {"sum": {**data, "isMonotonic": False}}
    resource = {"attributes": [{"key": "service.instance.id", "value": {"stringValue": "one"}}]}
    scope = {"metrics": [{"name": name, **kind}]}
    block = {"resource": resource, "scopeMetrics": [scope]}
    return json.dumps({"resourceMetrics": [block]}) + "\n"


def test_the_levels_of_kv_caches_are_the_last_ones():
    """By the time of the point, not by its place in the file; not of what can't be a number."""
    _, reader = read(
        level_line("pytorch.kv_cache.leak.score", 2, {"asDouble": 0.5}),
        level_line("pytorch.kv_cache.usage", 2, {"asInt": "4096"}),
        level_line("pytorch.kv_cache.count", 2, {"asInt": "3"}),
        level_line("pytorch.kv_cache.leak.score", 1, {"asDouble": 0.97}),
        level_line("pytorch.kv_cache.usage", 3, {"asDouble": "NaN"}),
        level_line("pytorch.kv_cache.count", 3, {}),
        level_line("pytorch.kv_cache.leak.score", 1, {"asDouble": 0.1}, model="T5"),
    )
    assert {
        (PROCESS, "Llama"): (4096, 3, 0.5),
        (PROCESS, "T5"): (0, 0, 0.1),
    } == reader.kv_cache_levels()


def test_steps_are_read_back():
    """From the event of the span; one that is malformed makes the span a broken one."""

    def value(*items: str | float) -> dict[str, object]:
        kind = "stringValue" if isinstance(items[0], str) else "doubleValue"
        return {"arrayValue": {"values": [{kind: item} for item in items]}}

    def event(*durations: float) -> list[dict[str, object]]:
        attributes = {
            names.PYTORCH_STEP_PHASES: value("prefill", "decode"),
            names.PYTORCH_STEP_STARTS: value(0.0, 0.5),
            names.PYTORCH_STEP_DURATIONS: value(*durations),
        }
        listed = [{"key": key, "value": one} for key, one in attributes.items()]
        return [{"name": "pytorch.steps", "timeUnixNano": "3000000000", "attributes": listed}]

    found, reader = read(span_line(CPU, events=event(0.5, 0.25)), span_line(CPU, events=event(0.5)))
    steps = (StepTime("prefill", 0.0, 0.5), StepTime("decode", 0.5, 0.25))
    assert ([CPU_INFERENCE._replace(loop=Loop(steps=steps))], 1) == (found, reader.broken_spans)
