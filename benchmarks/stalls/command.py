"""How long an inference can be held up by telemetry: the SDK's exporters beside the helper's.

`python -m benchmarks.stalls` in a checkout, also `make bench`. Each variant lives in a process of
its own, since providers and the garbage collector's state are a process's; they take turns in short
segments, so that all of them meet the same machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import children
from benchmarks.environment import describe_environment
from benchmarks.stalls import services
from benchmarks.stalls import sink as counting
from benchmarks.stalls.table import Row, render

_SECONDS = 600.0
_SEGMENT_S = 3.0
_NAMES = ("launch-bound", "8 threads", "asyncio")
BASELINE = "no telemetry"

_NONE = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
_SDK = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp"}
_OURS = {"OTEL_TRACES_EXPORTER": "warpspan_otlp", "OTEL_METRICS_EXPORTER": "warpspan_otlp"}
_HTTP = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
_GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
_FREEZE = {"OTEL_PYTHON_WARPSPAN_GC_FREEZE": "true"}
#: The environment of each variant, None for no telemetry.
VARIANTS: dict[str, dict[str, str] | None] = {
    BASELINE: None,
    "not exported": _NONE,
    "SDK, OTLP/HTTP": _SDK | _HTTP,
    "SDK, OTLP/gRPC": _SDK | _GRPC,
    "SDK, OTLP/HTTP, freeze": _SDK | _HTTP | _FREEZE,
    "helper, OTLP/HTTP": _OURS | _HTTP,
    "helper, OTLP/HTTP, freeze": _OURS | _HTTP | _FREEZE,
    "helper, OTLP/gRPC, freeze": _OURS | _GRPC | _FREEZE,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command.

    Args:
        arguments: the command line behind the name of the program; None is that of the process.

    Returns:
        The exit code 0: measured.
    """
    options = _parser().parse_args(arguments)
    rows = run(options.seconds, options.endpoint)
    environment = describe_environment()
    render(rows, environment)
    if options.json is not None:
        figures = {"environment": environment, "rows": [row._asdict() for row in rows]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def run(seconds: float = _SECONDS, endpoint: str | None = None) -> list[Row]:
    """Measure every variant of every service.

    Args:
        seconds: how long, all together.
        endpoint: a collector's address to export to (by the protocol of each variant, its port
            added), in place of a sink that counts.
    """
    context = multiprocessing.get_context("spawn")

    def start(target: Any, *args: Any) -> Any:
        ours, theirs = context.Pipe()
        # A daemon ends with us, also by Ctrl-C.
        process = context.Process(target=target, args=(theirs, *args), daemon=True)
        children.start_deaf(process.start)
        theirs.close()
        return ours, process

    sink, sink_process = start(counting.serve)
    http_port, grpc_port = sink.recv()
    running = {}
    for name, variables in VARIANTS.items():
        port = http_port if variables and "http" in str(variables) else grpc_port
        environ = {
            **(variables or {}),
            "OTEL_EXPORTER_OTLP_ENDPOINT": _endpoint(variables, endpoint, port),
            "OTEL_LOGS_EXPORTER": "none",
        }
        running[name] = start(services.work, environ, variables is not None)
    for orders, _ in running.values():
        orders.recv()  # it is warm
    found: dict[tuple[str, str], list[Any]] = {}
    lost: dict[tuple[str, str], int] = {}

    def count() -> int:
        sink.send("count")
        return int(sink.recv())

    count()
    rounds = max(1, round(seconds / _SEGMENT_S / len(VARIANTS) / len(_NAMES)))
    for turn in range(rounds):
        for service in _NAMES:
            names = list(VARIANTS)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                orders = running[name][0]
                orders.send((service, _SEGMENT_S))
                segment = orders.recv()
                found.setdefault((service, name), []).append(segment)
                if VARIANTS[name] not in (None, _NONE) and endpoint is None:
                    missing = len(segment.latencies_ns) - count()
                    lost[service, name] = lost.get((service, name), 0) + missing
    for orders, process in (*running.values(), (sink, sink_process)):
        orders.send(None)
        process.join()
    return [
        _row(
            service,
            name,
            found[service, name],
            found[service, BASELINE],
            lost.get((service, name), 0),
        )
        for service in _NAMES
        for name in VARIANTS
    ]


def _endpoint(variables: dict[str, str] | None, endpoint: str | None, port: int) -> str:
    if endpoint is None:
        return f"http://127.0.0.1:{port}"
    return f"{endpoint}:{4318 if 'http' in str(variables) else 4317}"


def _row(service: str, name: str, segments: list[Any], base: list[Any], lost: int) -> Row:
    latencies = sorted(ns for segment in segments for ns in segment.latencies_ns)
    most = max(ns for segment in base for ns in segment.latencies_ns)
    count = len(latencies)

    def percentile(share: float) -> float:
        return float(latencies[min(count - 1, int(share * count))] / 1e3)

    return Row(
        service,
        name,
        count,
        percentile(0.5),
        percentile(0.99),
        percentile(0.999),
        latencies[-1] / 1e3,
        (latencies[-1] - most) / 1e3,
        sum(segment.process_s for segment in segments) / count * 1e6,
        sum(segment.export_s for segment in segments) / count * 1e6,
        sum(segment.helper_s for segment in segments) / count * 1e6,
        segments[-1].rss_bytes / 2**20,
        segments[-1].helper_rss_bytes / 2**20,
        lost,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stalls",
        description="Measure how long an inference is held up by telemetry on this machine.",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=_SECONDS,
        help="how long to measure, all variants together (default: %(default)g)",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="export to a collector at this address without a port, http://127.0.0.1 for one, "
        "in place of a sink that counts",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser
