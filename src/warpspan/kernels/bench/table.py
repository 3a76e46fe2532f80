"""Benchmark rows and correctness checks as tables of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.text import Text

from warpspan.kernels.bench.correctness import Check
from warpspan.kernels.bench.rows import OURS, BenchRow, verdict
from warpspan.report.blocks import Column, blocks

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
# What names a row.
KEYS = ("cache", "provider")


def tables(rows: Sequence[BenchRow], console: Console) -> Iterator[RenderableType]:
    """A table for each shape of each operation, and after the last one the operation's verdict.

    A column that no row has a value for is left out; what does not fit the console goes on in
    further tables.
    """
    for op, group in groupby(rows, key=lambda row: row.op):
        of_op = list(group)
        for _, same in groupby(of_op, key=lambda row: (row.shape, row.dtype)):
            yield _table(list(same), console)
        yield Text(f"{op}: {verdict(of_op)}")
        throttled = sorted({why for row in of_op for why in row.throttle_reasons or ()})
        if throttled:
            yield Text(f"{op}: the GPU was throttled meanwhile: {', '.join(throttled)}")


def _table(rows: Sequence[BenchRow], console: Console) -> RenderableType:
    first = rows[0]
    title = f"{first.op}  {first.shape}  {first.dtype}"
    if first.minimum_bytes is not None:
        title += f"  minimum {number(first.minimum_bytes, 2, 1e-6)} MB"
    columns = [
        Column(header, [_cell(cell(row)) for row in rows], is_text=header in LEFT)
        for header, cell in COLUMNS
        if header not in TITLE
    ]
    keys = [at for at, column in enumerate(columns) if column.heading in KEYS]
    styles = ["bold" if row.provider in OURS else "" for row in rows]
    return Group(Text(title, "italic"), *blocks(columns, console, keys, styles), Text())


def _cell(text: str) -> str | None:
    return None if text == ABSENT else text


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


def checks_table(checks: Sequence[Check], console: Console) -> RenderableType:
    """`check_cells` for a terminal."""
    rows = check_cells(checks)
    columns = [
        Column(header, [_cell(cells[at]) for cells in rows], is_text=at < 2)
        for at, header in enumerate(CHECK_COLUMNS)
    ]
    styles = ["" if cells[3] == "0" else "red" for cells in rows]
    title = Text("Correctness against float64", "italic")
    return Group(title, *blocks(columns, console, (0, 1), styles), Text())
