"""Benchmark rows and correctness checks as tables of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal

from rich import box
from rich.markup import escape
from rich.table import Table

from warpspan.kernels.bench.correctness import Check
from warpspan.kernels.bench.rows import OURS, BenchRow, verdict

ABSENT = "-"


def number(value: float | None, digits: int = 1, scale: float = 1.0) -> str:
    """A scaled number, or a dash where it was not measured."""
    return ABSENT if value is None else f"{value * scale:.{digits}f}"


def spread(row: BenchRow) -> str:
    """Median device microseconds with the 20th and 80th percentile."""
    if row.device_p50_s is None:
        return ABSENT
    low, high = number(row.device_p20_s, 2, 1e6), number(row.device_p80_s, 2, 1e6)
    return f"{number(row.device_p50_s, 2, 1e6)} [{low}-{high}]"


def percent(value: float | None) -> str:
    """A fraction in percent."""
    return ABSENT if value is None else f"{value:.0%}"


# Header, and the cell of a row.
COLUMNS = (
    ("shape", lambda row: row.shape),
    ("dtype", lambda row: row.dtype),
    ("cache", lambda row: row.cache or ABSENT),
    ("provider", lambda row: row.provider),
    ("launches", lambda row: ABSENT if row.launches is None else str(row.launches)),
    ("device us p50 [p20-p80]", spread),
    ("wall us", lambda row: number(row.wall_s, 1, 1e6)),
    ("min MB", lambda row: number(row.minimum_bytes, 2, 1e-6)),
    ("GB/s", lambda row: number(row.bytes_per_s, 0, 1e-9)),
    ("% copy", lambda row: percent(row.ceiling_fraction)),
    ("% sheet", lambda row: percent(row.datasheet_fraction)),
    ("peak MB", lambda row: number(row.peak_bytes, 1, 1e-6)),
    ("SM cycles", lambda row: number(row.sm_cycles, 0)),
    ("mJ", lambda row: number(row.energy_j, 3, 1e3)),
    ("err/eager", lambda row: number(row.error_ratio, 2)),
    ("speed-up", lambda row: ABSENT if row.speedup is None else f"{row.speedup:.2f}x"),
    ("1st call s", lambda row: number(row.first_call_s, 2)),
    ("note", lambda row: row.reason or ""),
)
LEFT = ("shape", "dtype", "cache", "provider", "note")
# The same in all rows of a shape: in the title of its table.
TITLE = ("shape", "dtype", "min MB")
NOTE_WIDTH = 44
# What a narrow terminal does without, the first of them first.
LEAST_FIRST = ("1st call s", "SM cycles", "% sheet", "peak MB", "GB/s", "wall us", "err/eager")


def tables(rows: Sequence[BenchRow], width: int) -> Iterator[Table | str]:
    """A table for each shape of each operation, and after the last one the operation's verdict.

    A column that no row has a value for is left out, and so are the least of the others where a
    terminal of `width` columns has no room for them.
    """
    for op, group in groupby(rows, key=lambda row: row.op):
        of_op = list(group)
        hidden: list[str] = []
        for _, same in groupby(of_op, key=lambda row: (row.shape, row.dtype)):
            table, left_out = _table(list(same), width)
            hidden += [header for header in left_out if header not in hidden]
            yield table
        if hidden:
            yield f"{op}: left out for want of room: {', '.join(hidden)} (in --json and --html)"
        yield f"{op}: {verdict(of_op)}"
        throttled = sorted({why for row in of_op for why in row.throttle_reasons or ()})
        if throttled:
            yield f"{op}: the GPU was throttled meanwhile: {', '.join(throttled)}"


def _table(rows: Sequence[BenchRow], width: int) -> tuple[Table, list[str]]:
    first = rows[0]
    title = f"{first.op}  {first.shape}  {first.dtype}"
    if first.minimum_bytes is not None:
        title += f"  minimum {number(first.minimum_bytes, 2, 1e-6)} MB"
    columns = {
        header: [cell(row) for row in rows] for header, cell in COLUMNS if header not in TITLE
    }
    columns = {header: cells for header, cells in columns.items() if {*cells} - {ABSENT, ""}}
    hidden = [
        header
        for header in LEAST_FIRST
        if _width(columns) > width and columns.pop(header, None) is not None
    ]
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for header in columns:
        if header == "note":
            table.add_column(header, max_width=NOTE_WIDTH, overflow="fold")
        else:
            justify: Literal["left", "right"] = "left" if header in LEFT else "right"
            table.add_column(escape(header), justify=justify, no_wrap=True)
    for row, cells in zip(rows, zip(*columns.values(), strict=True), strict=True):
        table.add_row(*map(escape, cells), style="bold" if row.provider in OURS else None)
    return table, hidden


def _width(columns: dict[str, list[str]]) -> int:
    widest = {header: max(map(len, (header, *cells))) for header, cells in columns.items()}
    return sum(min(NOTE_WIDTH, w) if h == "note" else w for h, w in widest.items()) + 2 * len(
        widest
    )


CHECK_COLUMNS = ("operation", "dtype", "cases", "failed", "max error", "err/eager")


def check_cells(checks: Sequence[Check]) -> list[list[str]]:
    """Correctness by operation and dtype: cases, how many failed, the worst of random inputs."""
    rows = []
    for (op, dtype), group in groupby(checks, key=lambda check: (check.op, check.dtype)):
        of_op = list(group)
        plain = [check for check in of_op if check.case.endswith(" random")]
        failed = sum(check.failure is not None for check in of_op)
        errors = [check.max_error for check in plain if check.max_error is not None]
        ratios = [check.error_ratio for check in plain if check.error_ratio is not None]
        worst = f"{max(errors):.1e}" if errors else ABSENT
        ratio = f"{max(ratios):.2f}" if ratios else ABSENT
        rows.append([op, dtype, str(len(of_op)), str(failed), worst, ratio])
    return rows


def checks_table(checks: Sequence[Check]) -> Table:
    """`check_cells` for a terminal."""
    table = Table(title="Correctness against float64", title_justify="left")
    for header in CHECK_COLUMNS:
        table.add_column(header, justify="left" if header in CHECK_COLUMNS[:2] else "right")
    for cells in check_cells(checks):
        table.add_row(*cells, style=None if cells[3] == "0" else "red")
    return table
