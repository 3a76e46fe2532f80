"""Benchmark rows and correctness checks as tables of a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.table import Table

from warpspan.bench.correctness import Check
from warpspan.bench.rows import BenchRow, verdict

ABSENT = "-"


def number(value: float | None, digits: int = 1, scale: float = 1.0) -> str:
    """A scaled number, or a dash where it was not measured."""
    return ABSENT if value is None else f"{value * scale:.{digits}f}"


def spread(row: BenchRow) -> str:
    """Median device microseconds with the 20th and 80th percentile, or why there are none."""
    if row.device_p50_s is None:
        return row.reason or ABSENT
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
    ("error / eager's", lambda row: number(row.error_ratio, 2)),
    ("speed-up", lambda row: ABSENT if row.speedup is None else f"{row.speedup:.2f}x"),
    ("first call s", lambda row: number(row.first_call_s, 2)),
)
LEFT = ("shape", "dtype", "cache", "provider")


def tables(rows: Sequence[BenchRow]) -> Iterable[Table]:
    """A table for each operation, with its verdict under it.

    A provider that could not run at any shape, for one reason, takes one row at the end.
    """
    for op, group in groupby(rows, key=lambda row: row.op):
        of_op = _gathered(list(group))
        table = Table(title=op, title_justify="left", caption=verdict(of_op))
        table.caption_justify = "left"
        used = [
            column
            for column in COLUMNS
            if column[0] in LEFT or any(column[1](row) != ABSENT for row in of_op)
        ]
        for header, _ in used:
            table.add_column(header, justify="left" if header in LEFT else "right")
        shape = None
        for row in of_op:
            if shape not in (None, row.shape):
                table.add_section()
            shape = row.shape
            table.add_row(*(cell(row) for _, cell in used))
        yield table


def _gathered(rows: list[BenchRow]) -> list[BenchRow]:
    shapes = {(row.shape, row.dtype) for row in rows}
    untimed = Counter((row.provider, row.reason) for row in rows if row.device_p50_s is None)
    nowhere = [key for key, count in untimed.items() if count == len(shapes) > 1]
    kept = [row for row in rows if (row.provider, row.reason) not in nowhere]
    for provider, reason in nowhere:
        kept.append(BenchRow(rows[0].op, "all", "", "", provider, "", reason=reason))
    return kept


def notes(rows: Sequence[BenchRow]) -> Iterable[str]:
    """What rows with times have to say beside them, each once."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row.reason and row.device_p50_s is not None:
            shapes = reasons.setdefault((row.op, row.provider, row.reason), [])
            if row.shape not in shapes:
                shapes.append(row.shape)
    for (op, provider, reason), shapes in reasons.items():
        where = shapes[0] if len(shapes) == 1 else f"{len(shapes)} shapes"
        yield f"{op}, {provider} ({where}): {reason}"
    throttled = sorted({why for row in rows for why in row.throttle_reasons or ()})
    if throttled:
        yield f"The GPU was throttled during the run: {', '.join(throttled)}."


CHECK_COLUMNS = ("operation", "dtype", "cases", "failed", "max error", "error / eager's")


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
