"""The exporter `warpspan_file`."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from opentelemetry.exporter.otlp.json.file import FileMetricExporter, FileSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from warpspan import config
from warpspan.export import appender
from warpspan.export.file import WarpspanFileMetricExporter, WarpspanFileSpanExporter

VARIABLE = "OTEL_PYTHON_WARPSPAN_FILE"

APPENDER = """
import sys
from warpspan.export.appender import LineAppender
file = LineAppender(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    file.write(sys.argv[2] * 200_000 + "\\n")
"""

FORK = """
import os
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from warpspan import config
from warpspan.export import appender
from warpspan.export.file import WarpspanFileSpanExporter

exporter = WarpspanFileSpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("test")
# As when another thread is in the middle of an export.
with exporter._handover._channel._lock:
    child = os.fork()
if child == 0:
    tracer.start_span("child").end()
    os._exit(0)
_, status = os.waitpid(child, 0)
tracer.start_span("parent").end()
os._exit(status)
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def test_entry_points():
    """Both exporters are found by the name that `warpspan run` gives to OpenTelemetry."""
    found = {
        signal: entry_points(group=f"opentelemetry_{signal}_exporter", name="warpspan_file")
        for signal in ("traces", "metrics")
    }
    assert {
        "traces": [WarpspanFileSpanExporter],
        "metrics": [WarpspanFileMetricExporter],
    } == {signal: [one.load() for one in some] for signal, some in found.items()}


def test_spans_are_the_official_exporters(file, tmp_path):
    """What is written is what OpenTelemetry's own exporter writes."""
    official = tmp_path / "official.jsonl"
    exporters = [WarpspanFileSpanExporter(), FileSpanExporter(official)]
    provider = TracerProvider()
    for exporter in exporters:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("test").start_span("one", attributes={"shape": (8, 128)}).end()
    provider.shutdown()
    assert official.read_text() == file.read_text()


def test_metrics_are_the_official_exporters(file, tmp_path):
    """Metrics likewise, in the same file."""
    official = tmp_path / "official.jsonl"
    reader = InMemoryMetricReader()
    MeterProvider([reader]).get_meter("test").create_counter("one").add(3)
    data = reader.get_metrics_data()
    for exporter in (WarpspanFileMetricExporter(), FileMetricExporter(official)):
        exporter.export(data)
        exporter.shutdown()
    assert official.read_text() == file.read_text()


@pytest.mark.parametrize("exporter", [WarpspanFileSpanExporter, WarpspanFileMetricExporter])
def test_no_file(monkeypatch, exporter):
    """Without a file it says what to set."""
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ValueError, match=f"set {VARIABLE}, or start the program with `warpspan"):
        exporter()


def test_lines_of_several_processes_stay_whole(tmp_path):
    """Lines far longer than any buffer, by four processes at once, are never mixed."""
    path = tmp_path / "lines"
    appenders = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDER, path, letter],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for letter in "abcd"
    ]
    for one in appenders:
        assert "ready\n" == one.stdout.readline()
    for one in appenders:
        one.stdin.write("go\n")
        one.stdin.flush()
    assert [0] * 4 == [one.wait() for one in appenders]
    for one in appenders:
        one.stdin.close()
        one.stdout.close()
    lines = path.read_text().splitlines()
    assert {letter * 200_000: 20 for letter in "abcd"} == {
        line: lines.count(line) for line in lines
    }


def test_fork_in_the_middle_of_an_export(file):
    """A child forked while the parent exports has its own lock, and its spans arrive."""
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=300)
    names = [
        span["name"]
        for line in file.read_text().splitlines()
        for block in json.loads(line)["resourceSpans"]
        for scope in block["scopeSpans"]
        for span in scope["spans"]
    ]
    assert ["child", "parent"] == names


@pytest.mark.parametrize(
    ("value", "expected"), [(None, 1 << 30), ("2", 2 << 20), ("0", None), ("much", 1 << 30)]
)
def test_the_limit_in_bytes(value, expected):
    """As the table of options has it."""
    environ = {} if value is None else {"OTEL_PYTHON_WARPSPAN_FILE_LIMIT": value}
    assert expected == appender.limit_bytes(environ)
    [option] = [one for one in config.OPTIONS if one.variable.endswith("FILE_LIMIT")]
    assert appender.limit_bytes({}) == option.default << 20
