"""The measured modes as tables, for a terminal or a document, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.overhead.methods import LIMIT_NS, MethodCost
from benchmarks.overhead.modes import NO_SDK, RECORDED, SUBMODULES, UNSAMPLED, ModeResult, Row
from benchmarks.overhead.variants import BARE, BASELINE, HANDWRITTEN, WARPSPAN

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


def targets(results: Iterable[ModeResult], methods: Sequence[MethodCost] = ()) -> list[Target]:
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
    found += [Target(_title(cost), cost.added_ns, LIMIT_NS, "ns") for cost in methods]
    return found


def _title(cost: MethodCost) -> str:
    where = "inside an inference" if cost.inside else "outside of all"
    return f"{cost.method}, {where}"


class _Grid(NamedTuple):
    """A table; the first column is text, the others are numbers. A heading may have lines."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def render(
    results: Sequence[ModeResult],
    console: Console,
    methods: Sequence[MethodCost] = (),
    *,
    markdown: bool = False,
    more: Sequence[Target] = (),
) -> None:
    """Print everything: a table a mode, the full rate, the methods, the targets.

    Args:
        results: what was measured.
        console: where to.
        methods: what calls of replaced methods cost.
        markdown: as a document has it, rather than a terminal.
        more: targets of other measurements.
    """
    console.print(
        "Added to each inference, in µs unless said otherwise. Small: one Linear(4, 4). "
        f"Deep: {SUBMODULES} trivial submodules more.\n"
        "Caller: time on the calling thread. CPU: processor time of all threads, exporting "
        "included.\n"
    )
    for result in results:
        _print(_mode_grid(result), console, markdown=markdown)
        for row in result.rows:
            if row.unavailable is not None:
                console.print(Text(f"{row.variant} does not run here: {row.unavailable}\n"))
    for result in results:
        if result.full_rate:
            _print(_full_rate_grid(result), console, markdown=markdown)
    if methods:
        _print(_method_grid(methods), console, markdown=markdown)
    found = [*targets(results, methods), *more]
    _print(_target_grid(found), console, markdown=markdown)


def _print(grid: _Grid, console: Console, *, markdown: bool) -> None:
    if markdown:
        console.print(Text(f"{grid.title}\n"))
        table = Table(box=box.MARKDOWN)
    else:
        table = Table(title=grid.title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    lines = max(heading.count("\n") for heading in grid.headings)
    for number, heading in enumerate(grid.headings):
        shown = (
            " ".join(heading.split()).replace("- ", "-") if markdown else _bottom(heading, lines)
        )
        table.add_column(shown, justify="right" if number else "left", no_wrap=not number)
    for row in grid.rows:
        table.add_row(*row, style="bold" if row[0] == WARPSPAN and not markdown else "")
    console.print(table)
    console.print()


def _bottom(heading: str, lines: int) -> str:
    return "\n" * (lines - heading.count("\n")) + heading


def _mode_grid(result: ModeResult) -> _Grid:
    return _Grid(
        f"{_MODE_TITLES[result.mode]} ({result.rounds} rounds)",
        (
            "",
            "small\ncaller\np50",
            "p99",
            "× bare",
            "small\nCPU",
            "× hand-\nwritten",
            "deep\ncaller\np50",
            "p99",
            "deep\nCPU",
            "submodule\nns",
            "span\nattr.",
        ),
        [
            (row.variant, *_cells(row))
            for row in result.rows
            if row.variant != BASELINE and row.unavailable is None
        ],
    )


def _cells(row: Row) -> tuple[str, ...]:
    small, deep = row.small, row.deep
    if small is None or deep is None:
        return ()
    return (
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
    )


def _full_rate_grid(result: ModeResult) -> _Grid:
    return _Grid(
        "At full rate: one caller of the small model, recorded",
        ("", "calls\n1/s", "spans\n1/s", "first drop\nafter s"),
        [
            (
                row.variant,
                f"{row.calls_per_s:,.0f}",
                f"{row.recorded_per_s:,.0f}",
                _ABSENT if row.first_drop_s is None else f"{row.first_drop_s:.2f}",
            )
            for row in result.full_rate
        ],
    )


def _method_grid(methods: Sequence[MethodCost]) -> _Grid:
    return _Grid(
        "Calls that record nothing: a tensor in host memory, a replay inside an inference",
        ("", "torch's own\nns", "added\nns"),
        [(_title(cost), f"{cost.original_ns:.0f}", f"{cost.added_ns:.0f}") for cost in methods],
    )


def _target_grid(found: Iterable[Target]) -> _Grid:
    rows = []
    for target in found:
        digits = 0 if target.unit == "ns" else 2
        measured = _ABSENT if target.measured is None else f"{target.measured:.{digits}f}"
        rows.append(
            (
                target.name,
                f"{measured} {target.unit}",
                f"{target.limit:.{digits}f} {target.unit}",
                "met" if target.met else "missed",
            )
        )
    return _Grid("Targets", ("", "measured", "at most", ""), rows)


def to_json(
    results: Sequence[ModeResult],
    environment: dict[str, Any],
    methods: Sequence[MethodCost] = (),
    *,
    more: Sequence[Target] = (),
) -> dict[str, Any]:
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
        "methods": [cost._asdict() for cost in methods],
        "targets": [
            {**target._asdict(), "met": target.met}
            for target in [*targets(results, methods), *more]
        ],
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
