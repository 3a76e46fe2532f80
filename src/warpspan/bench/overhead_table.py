"""The measured modes as tables for a terminal, as text for a document and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from warpspan.bench.overhead_modes import NO_SDK, RECORDED, SUBMODULES, UNSAMPLED, ModeResult, Row
from warpspan.bench.overhead_variants import BARE, BASELINE, HANDWRITTEN, WARPSPAN

_ABSENT = "\N{EN DASH}"
_MODE_TITLES = {
    RECORDED: "Recorded: BatchSpanProcessor, a metric reader, an exporter that drops what it gets",
    UNSAMPLED: "Unsampled: every span is sampled out, metrics are recorded",
    NO_SDK: "No SDK: OpenTelemetry's API alone",
}


class Target(NamedTuple):
    """A figure of warpspan's and what it may be at most; `measured` is None where it is missing."""

    name: str
    measured: float | None
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether it is there and within the limit."""
        return self.measured is not None and self.measured <= self.limit


def targets(results: Iterable[ModeResult]) -> list[Target]:
    """What warpspan aims at, against what was measured."""
    found: list[Target] = []
    for result in results:
        rows = {row.variant: row for row in result.rows}
        row, bare = rows[WARPSPAN], rows[BARE]
        if result.mode == RECORDED:
            found += [
                Target(
                    f"caller's time, recorded, as a multiple of a {BARE}",
                    row.caller_ratio,
                    1.0,
                    "×",
                ),
                Target(
                    f"processor time, recorded, as a multiple of {HANDWRITTEN}",
                    row.processor_ratio,
                    1.0,
                    "×",
                ),
                Target("each submodule", row.submodule_ns, 35.0, "ns"),
            ]
        elif result.mode == UNSAMPLED and row.small is not None and bare.small is not None:
            limit_us = max(4.0, 1.5 * bare.small.caller_p50_ns / 1e3)
            found.append(
                Target("caller's time, unsampled", row.small.caller_p50_ns / 1e3, limit_us, "µs")
            )
    return found


def render(results: Sequence[ModeResult], console: Console) -> None:
    """Print everything: a table a mode, the full rate, the targets."""
    console.print(
        f"Added to each inference, in µs unless said otherwise. Small: one Linear(4, 4). "
        f"Deep: {SUBMODULES} trivial submodules more.\n"
        "Caller: time on the calling thread. CPU: processor time of all threads, exporting "
        "included.\n"
    )
    for result in results:
        console.print(_mode_table(result))
        for row in result.rows:
            if row.unavailable is not None:
                console.print(Text(f"{row.variant} does not run here: {row.unavailable}"))
        console.print()
    for result in results:
        if result.full_rate:
            console.print(_full_rate_table(result))
            console.print()
    console.print(_target_table(targets(results)))


def _mode_table(result: ModeResult) -> Table:
    table = Table(
        title=f"{_MODE_TITLES[result.mode]} ({result.rounds} rounds)",
        title_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
    )
    table.add_column("\n\n", no_wrap=True)
    for heading in (
        "small\ncaller\np50",
        "\n\np99",
        "\n\n× bare",
        "small\nCPU\n",
        "\n× hand-\nwritten",
        "deep\ncaller\np50",
        "\n\np99",
        "deep\nCPU\n",
        "\nsubmodule\nns",
        "\nspan\nattr.",
    ):
        table.add_column(heading, justify="right")
    for row in result.rows:
        if row.variant != BASELINE and row.unavailable is None:
            style = "bold" if row.variant == WARPSPAN else ""
            table.add_row(row.variant, *_cells(row), style=style)
    return table


def _cells(row: Row) -> list[str]:
    small, deep = row.small, row.deep
    if small is None or deep is None:
        return []
    return [
        _us(small.caller_p50_ns),
        _us(small.caller_p99_ns),
        _times(row.caller_ratio),
        _us(small.processor_ns),
        _times(row.processor_ratio),
        _us(deep.caller_p50_ns),
        _us(deep.caller_p99_ns),
        _us(deep.processor_ns),
        _ABSENT if row.submodule_ns is None else f"{row.submodule_ns:.0f}",
        _ABSENT if row.attributes is None else str(row.attributes),
    ]


def _full_rate_table(result: ModeResult) -> Table:
    table = Table(
        title="At full rate: one caller of the small model, recorded",
        title_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
    )
    table.add_column("\n", no_wrap=True)
    for heading in ("calls\n1/s", "spans\n1/s", "first drop\nafter s"):
        table.add_column(heading, justify="right")
    for row in result.full_rate:
        first = _ABSENT if row.first_drop_s is None else f"{row.first_drop_s:.2f}"
        table.add_row(row.variant, f"{row.calls_per_s:,.0f}", f"{row.recorded_per_s:,.0f}", first)
    return table


def _target_table(found: Iterable[Target]) -> Table:
    table = Table(title="Targets", title_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column("warpspan")
    for heading in ("measured", "at most", ""):
        table.add_column(heading, justify="right")
    for target in found:
        digits = 0 if target.unit == "ns" else 2
        measured = _ABSENT if target.measured is None else f"{target.measured:.{digits}f}"
        table.add_row(
            target.name,
            f"{measured} {target.unit}",
            f"{target.limit:.{digits}f} {target.unit}",
            Text("met", style="green") if target.met else Text("missed", style="red"),
        )
    return table


def to_json(results: Sequence[ModeResult], environment: dict[str, Any]) -> dict[str, Any]:
    """Everything as a value for `json.dumps`, in nanoseconds."""
    return {
        "environment": environment,
        "modes": {
            result.mode: {
                "rounds": result.rounds,
                "variants": {row.variant: _row_json(row) for row in result.rows},
                "full_rate": {row.variant: row._asdict() for row in result.full_rate},
            }
            for result in results
        },
        "targets": [{**target._asdict(), "met": target.met} for target in targets(results)],
    }


def _row_json(row: Row) -> dict[str, Any]:
    return row._asdict() | {
        "submodule_ns": row.submodule_ns,
        "small": None if row.small is None else row.small._asdict(),
        "deep": None if row.deep is None else row.deep._asdict(),
    }


def _us(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e3:.1f}"


def _times(ratio: float | None) -> str:
    return _ABSENT if ratio is None else f"{ratio:.2f}"
