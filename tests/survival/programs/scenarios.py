"""Runs each of a program's functions in a forked process of its own, as if it were a program.

torch is imported once, before all of them, and nothing else is done before: what a scenario finds
is a fresh interpreter. It ends as a program does, with exit handlers, unless it ends otherwise.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import torch
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from torch import nn

X = torch.ones(2, 4)
DEADLINE_S = 300


class Model(nn.Module):
    """A model that does something in its forward."""

    def __init__(self, inside=None):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.inside = inside

    def forward(self, x):
        if self.inside is not None:
            self.inside()
        return self.linear(x)


class FileExporter(SpanExporter):
    """Appends a line for each span, also from other processes."""

    def __init__(self, path):
        self.path = path

    def export(self, spans):
        for span in spans:
            line = {
                "name": span.name,
                "id": span.context.span_id,
                "parent": span.parent.span_id if span.parent else None,
                "error": span.attributes.get("error.type"),
                "steps": span.attributes.get("pytorch.step.count"),
                "process": os.getpid(),
            }
            append(self.path, line)
        return SpanExportResult.SUCCESS


class FileMetricExporter(MetricExporter):
    """Appends a line for each data point, also from other processes."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def export(self, metrics_data, timeout_millis=0, **options):
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        value = point.count if hasattr(point, "count") else point.value
                        line = {
                            "metric": metric.name,
                            "value": value,
                            "time": point.time_unix_nano,
                            "process": os.getpid(),
                        }
                        append(self.path, line)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis=0):
        return True

    def shutdown(self, timeout_millis=0, **options):
        pass


def append(path, line):
    """One write, so that lines of several processes stay whole."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (json.dumps(line) + "\n").encode())
    os.close(descriptor)


class Host:
    """What a scenario gets: a file for its telemetry and a way to say that it is ready."""

    def __init__(self, path, ready):
        self.path = path
        self._ready = ready

    def ready(self):
        """Let the runner send its signal."""
        os.write(self._ready, b"!")

    def tracer_provider(self, **options):
        """A provider that exports at its shutdown or when it is flushed, and not by itself."""
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(**options)
        provider.add_span_processor(
            BatchSpanProcessor(FileExporter(self.path), schedule_delay_millis=3_600_000)
        )
        return provider

    def meter_provider(self):
        """The same for metrics."""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        reader = PeriodicExportingMetricReader(FileMetricExporter(self.path), 3_600_000)
        return MeterProvider([reader])


def run_all(scenarios):
    """Run functions that take a `Host`, or those named in the arguments; print what happened."""
    results = {}
    for name in sys.argv[1:] or scenarios:
        folder = tempfile.mkdtemp()
        results[name] = _run(scenarios[name], folder)
        shutil.rmtree(folder)  # not by `with`: the children leave through it, too
    print(json.dumps(results))


def _run(scenario, folder):
    telemetry, output = f"{folder}/telemetry", f"{folder}/output"
    ready, write_ready = os.pipe()
    process = os.fork()
    if process == 0:
        os.setsid()
        os.close(ready)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        scenario(Host(telemetry, write_ready))
        sys.exit()
    os.close(write_ready)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(process, signal.SIGKILL))
    signal.alarm(DEADLINE_S)
    if os.read(ready, 1):  # empty at its end
        os.kill(process, signal.SIGTERM)
    _, status = os.waitpid(process, 0)
    signal.alarm(0)
    os.close(ready)
    lines = [json.loads(line) for line in _text(telemetry).splitlines()]
    spans = [line for line in lines if "name" in line]
    names = {span["id"]: span["name"] for span in spans}
    for line in lines:
        line["process"] = "main" if line["process"] == process else "child"
    for span in spans:
        span["parent"] = names.get(span["parent"]) if span["parent"] is not None else None
        del span["id"]
    return {
        "code": os.waitstatus_to_exitcode(status),
        "output": _text(output),
        "spans": spans,
        "metrics": [line for line in lines if "metric" in line],
    }


def _text(path):
    path = Path(path)
    return path.read_text(encoding="utf-8") if path.exists() else ""
