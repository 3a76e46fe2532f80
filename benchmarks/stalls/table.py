"""The figures of the stalls benchmark as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

_WIDTH = 144


class Row(NamedTuple):
    """One variant of one service; latencies in microseconds."""

    service: str
    variant: str
    inferences: int
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    max_added_us: float
    process_us: float
    export_us: float
    helper_us: float
    rss_mib: float
    helper_rss_mib: float
    lost: int


def render(rows: Sequence[Row], environment: dict[str, Any]) -> None:
    """Print a table for each service."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    described = ", ".join(f"{name} {value}" for name, value in environment.items())
    console.print(described, highlight=False, soft_wrap=True)
    for service in dict.fromkeys(row.service for row in rows):
        table = Table(title=f"{service}: latency of an inference, µs", title_justify="left")
        table.add_column("variant", no_wrap=True)
        table.add_column("inferences", justify="right", no_wrap=True)
        for name in ("p50", "p99", "p99.9", "max", "max added"):
            table.add_column(name, justify="right")
        for name in ("CPU", "export CPU", "helper CPU", "MiB", "helper MiB", "lost"):
            table.add_column(name, justify="right")
        for row in rows:
            if row.service == service:
                figures = row[3:]
                table.add_row(row.variant, f"{row.inferences:,}", *(f"{x:,.0f}" for x in figures))
        console.print(table)
    console.print(
        "CPU: processor time of the process, µs an inference; export CPU: of that, the exporting "
        "threads; helper CPU: of the export helper.",
        highlight=False,
        soft_wrap=True,
    )
