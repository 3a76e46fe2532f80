"""`python -m benchmarks.soak`: a mixed load while the backend dies and comes back."""

from __future__ import annotations

import logging
import os
import time
from typing import Annotated

import torch
import typer
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from rich.console import Console
from rich.table import Table

from benchmarks.environment import describe_environment
from benchmarks.soak import watch
from benchmarks.soak.backend import Backend
from benchmarks.soak.load import Load, fork
from warpspan import guard
from warpspan.export.otlp import WarpspanSpanExporter
from warpspan.instrumentor import WarpspanInstrumentor, active_session

_READINGS = 40
_FLUSH_S = 60.0


def soak(
    seconds: Annotated[float, typer.Option(help="How long.")] = 1200.0,
    seed: Annotated[int, typer.Option(help="Of the actions and the faults.")] = 0,
) -> None:
    """Run a mixed load; exit with 1 if anything grew, was miscounted, or failed inside warpspan."""
    console = Console()
    described = ", ".join(f"{name} {value}" for name, value in describe_environment().items())
    console.print(f"{described}, seed {seed}", highlight=False, soft_wrap=True)
    # What the exporter says of a backend that is away is not what is looked for here.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    backend = Backend(seed)
    reader = InMemoryMetricReader()
    provider = TracerProvider()
    os.environ |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": backend.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    provider.add_span_processor(BatchSpanProcessor(WarpspanSpanExporter()))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    WarpspanInstrumentor().instrument()
    try:
        said = _run(console, seconds, Load(seed), backend, reader)
    finally:
        backend.stop()
        provider.shutdown()
    for sentence in said:
        console.print(f"[red]{sentence}[/]")
    if said:
        raise typer.Exit(1)
    console.print("Nothing grew, and each call was counted once.")


def _run(
    console: Console, seconds: float, load: Load, backend: Backend, reader: InMemoryMetricReader
) -> list[str]:
    session = active_session()
    if session is None:
        return ["warpspan did not instrument torch: its log says why"]
    recorded = [0]

    def count(*_: object) -> None:
        recorded[0] += 1

    session.stream.subscribe("soak", count)
    least = most = forks = 0
    said: list[str] = []
    readings: list[watch.Reading] = []
    began = time.monotonic()
    for number in range(1, _READINGS + 1):
        until = began + seconds * number / _READINGS
        while time.monotonic() < until:
            calls = load.act()
            least, most = least + calls.least, most + calls.most
        forks += 1
        if not fork():
            said.append(f"the calls of forked child {forks} were not counted there")
        backend.disturb()
        session.finisher.flush(_FLUSH_S)
        readings.append(watch.read(reader))
    dropped = sum(session.finisher.dropped.values())
    skipped = sum(session.tracker.admission.skipped.values())
    counted = recorded[0] + dropped + skipped
    console.print(_table(readings))
    console.print(
        f"{most:,} calls ({most - least:,} interrupted): {recorded[0]:,} recorded, "
        f"{dropped:,} dropped, {skipped:,} skipped; {forks} forks"
    )
    if not least <= counted <= most:
        said.append(f"{least:,} to {most:,} calls were made and {counted:,} were counted")
    if load.swallowed:
        said.append(f"{load.swallowed} interrupts did not reach the program")
    if guard.faults:
        said.append(f"errors inside warpspan: {dict(guard.faults)}")
    return said + watch.growth(readings)


def _table(readings: list[watch.Reading]) -> Table:
    table = Table("reading", "memory MiB", "threads", "descriptors", "children", "series")
    for number in sorted({0, *range(len(readings) // 4 - 1, len(readings), len(readings) // 4)}):
        one = readings[number]
        table.add_row(
            f"{number + 1} of {len(readings)}",
            f"{one.rss_bytes / 2**20:,.1f}",
            *(f"{value:,}" for value in one[1:]),
        )
    return table


if __name__ == "__main__":
    typer.run(soak)
