"""A summary as tables for a terminal, or plain text where there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeVar

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from warpspan.records.units import plural, printable, rate, seconds, share, size
from warpspan.report.leaks import Leak
from warpspan.report.loops import LoopFigures
from warpspan.report.quantiles import Quantiles
from warpspan.report.summary import Row, Spread, Summary
from warpspan.report.syncs import Waiting

__all__ = ["ABSENT", "leak_sentence", "plural", "printable", "render", "seconds", "share", "size"]

ABSENT = "\N{EN DASH}"
_UNBOUNDED = 10_000
_NAME_MIN_WIDTH = 16
_NAME_FOLDED_WIDTH = 28
_T = TypeVar("_T")


class _Column(NamedTuple):
    """A column: its two lines of heading and its cell of a row, None where nothing was measured."""

    heading: str
    cell: Callable[[Row], str | None]
    justify: Literal["left", "right"] = "right"
    style: str = ""


_NAME = _Column(
    "inference\n", lambda row: printable(f"{row.operation} {row.model or ''}".rstrip()), "left"
)
_COUNT = _Column("count\n", lambda row: f"{row.inference_count:,}")
_FAILED = _Column("failed\n", lambda row: f"{sum(row.errors.values()):,}")
_HOST = (
    _Column("rate\n1/s", lambda row: _maybe(row.rate_per_s, rate)),
    _Column("duration\np50", lambda row: seconds(row.duration_s.p50), style="bold"),
    _Column("\np95", lambda row: seconds(row.duration_s.p95)),
    _Column("\np99", lambda row: seconds(row.duration_s.p99)),
)
_IDLE = _Column("idle\nshare", lambda row: _maybe(row.idle_share, share))
_DEVICE = (
    _Column("device\n", lambda row: printable(_device(row)), "left"),
    _Column(
        "device\ntime p50", lambda row: _maybe(row.device_time_s, lambda time: seconds(time.p50))
    ),
    _Column("\nshare", lambda row: _maybe(row.device_share, share)),
)
_SIZES = (
    _Column("memory\nmax", lambda row: _memory(row)),
    _Column("batch\np50/max", lambda row: _maybe(row.batch_size, _spread)),
    _Column("sequence\np50/max", lambda row: _maybe(row.sequence_length, _spread)),
)
_CACHE = (
    _Column("KV cache\nmax", lambda row: _maybe(row.kv_cache_max_bytes, size)),
    _Column("\ngrowth", lambda row: _maybe(row.kv_cache_growth_bytes, _growth)),
)
_WAITING = (
    _Column("waits\nper call", lambda row: _maybe(row.waiting, _waits)),
    _Column("\nwaited", lambda row: _maybe(row.waiting, _waited)),
    _Column("H2D\nper call", lambda row: _maybe(row.waiting, lambda sums: _copied(sums, "h2d"))),
    _Column("D2H\nper call", lambda row: _maybe(row.waiting, lambda sums: _copied(sums, "d2h"))),
)


_GENERATION = (
    _Column("first token\np50", lambda row: _loop(row, lambda of: _p50(of.first_token_s))),
    _Column("\np99", lambda row: _loop(row, lambda of: _p99(of.first_token_s))),
    _Column("per token\np50", lambda row: _loop(row, lambda of: _p50(of.token_s))),
    _Column("\np99", lambda row: _loop(row, lambda of: _p99(of.token_s))),
    _Column("tokens\n1/s", lambda row: _loop(row, lambda of: _maybe(of.tokens_per_s, rate))),
    _Column("between\nsteps", lambda row: _loop(row, lambda of: _maybe(of.between_share, share))),
)
_DENOISING = (
    _Column("denoise\nsteps", lambda row: _loop(row, lambda of: _maybe(of.denoise_steps, _count))),
    _Column("per step\np50", lambda row: _loop(row, lambda of: _p50(of.denoise_step_s))),
    _Column("\np99", lambda row: _loop(row, lambda of: _p99(of.denoise_step_s))),
)


def render(summary: Summary, console: Console) -> RenderableType:
    """The headline, the rows and their footnotes.

    One table where the console is wide enough for it, else as many as it takes.
    """
    counts = (_COUNT, _FAILED) if summary.error_count else (_COUNT,)
    parts: list[RenderableType] = [_headline(summary)]
    groups: list[tuple[_Column, ...]] = [counts, _HOST, (_IDLE,), _DEVICE, _SIZES]
    if any(row.kv_cache_max_bytes for row in summary.rows):
        groups.append(_CACHE)
    if any(row.waiting is not None for row in summary.rows):
        groups.append(_WAITING)
    groups += _present(summary.rows)
    for columns in _fitting(groups, summary.rows, console):
        parts += [Text(), _table(summary.rows, columns)]
    leaks = [Text(leak_sentence(leak), "bold red") for leak in summary.leaks]
    return Group(*parts, Text(), *leaks, *_footnotes(summary.rows))


def _present(rows: Sequence[Row]) -> list[tuple[_Column, ...]]:
    """The groups of columns that only some programs have anything for."""
    return [
        group
        for group in (_GENERATION, _DENOISING)
        if any(column.cell(row) is not None for column in group for row in rows)
    ]


def _fitting(
    groups: Sequence[Sequence[_Column]], rows: Sequence[Row], console: Console
) -> list[list[_Column]]:
    """The groups of columns dealt to tables that fit the console, each with the names first.

    Where one table does not fit, names may be folded between their words.
    """
    options = console.options.update(max_width=_UNBOUNDED)
    whole = [_NAME, *(column for group in groups for column in group)]
    if console.measure(_table(rows, whole), options=options).maximum <= console.width:
        return [whole]
    words = [word for row in rows for word in (_NAME.cell(row) or "").split()]
    folded = min(max(map(len, words), default=0), _NAME_FOLDED_WIDTH)
    tables: list[list[_Column]] = []
    for group in groups:
        together = [*tables[-1], *group] if tables else [_NAME, *group]
        width = console.measure(_table(rows, together, folded), options=options).maximum
        if tables and width <= console.width:
            tables[-1] = together
        else:
            tables.append([_NAME, *group])
    return tables


def leak_sentence(leak: Leak) -> str:
    """Which model's KV caches are not released, since when, and how much they hold."""
    model, held = printable(leak.model), size(leak.size_bytes)
    since = "" if leak.since is None else f" since {leak.since}"
    each = ""
    if leak.per_inference_bytes is not None:
        each = f", growing {size(round(leak.per_inference_bytes))} per inference"
    what = (
        f"one KV cache of {model} has grown{since} without being cut or released. It now holds {held}"
        if leak.caches == 1
        else f"{model} has released no KV cache{since}. {leak.caches:,} caches now hold {held}"
    )
    return f"Possible leak: {what}{each} (leak score {leak.score:.2f})."


def _table(rows: Sequence[Row], columns: Sequence[_Column], name_width: int | None = None) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="dim",
    )
    for column in columns:
        table.add_column(
            column.heading,
            justify=column.justify,
            style=column.style,
            overflow="fold",
            no_wrap=column.justify == "right",
            min_width=_NAME_MIN_WIDTH if column is _NAME else None,
            max_width=name_width if column is _NAME else None,
        )
    for row in rows:
        table.add_row(*(Text(column.cell(row) or ABSENT) for column in columns))
    return table


def _headline(summary: Summary) -> Text:
    line = Text()
    line.append(plural(summary.inference_count, "inference"), "bold")
    line.append(f" in {seconds(summary.elapsed_s)}")
    if summary.process_count > 1:
        line.append(f", {summary.process_count:,} processes")
    if summary.error_count:
        line.append(", ")
        line.append(f"{summary.error_count:,} failed", "red")
    return line


def _footnotes(rows: Sequence[Row]) -> list[Text]:
    notes = []
    absent = []
    if any(row.device_time_s is None for row in rows):
        absent.append("device time needs CUDA or ROCm")
    if any(_memory(row) is None for row in rows):
        absent.append("memory needs CUDA, ROCm or a CPU")
    if any(row.batch_size is None for row in rows):
        absent.append("batch size needs a tensor input")
    if any(row.sequence_length is None for row in rows):
        absent.append("sequence length needs token ids or embeddings")
    if any(row.rate_per_s is None or row.idle_share is None for row in rows):
        absent.append("rate and idle share need at least two inferences")
    if absent:
        needs = "; ".join(absent)
        notes.append(f"{ABSENT} = not measured. {needs[0].upper()}{needs[1:]}.")
    errors = {name: 0 for row in rows for name in row.errors}
    for row in rows:
        for name, count in row.errors.items():
            errors[name] += count
    for row in rows:
        notes += _waiting_note(row)
    if errors:
        listed = ", ".join(f"{printable(name)} {count:,}" for name, count in errors.items())
        notes.append(f"Failed: {listed}.")
    return [Text(note, "dim") for note in notes]


def _waiting_note(row: Row) -> list[str]:
    """How often a row's inferences wait and for what, and the place with the most time."""
    sums = row.waiting
    if sums is None or not sums.sync_count:
        return []
    kinds = ", ".join(
        f"{kind} {rate(count / sums.inference_count)}" for kind, count in sums.sync_kinds.items()
    )
    name = f"{row.operation} {row.model or ''}".rstrip()
    note = f"{name} waits per call: {kinds}."
    if sums.sync_site is not None and sums.sync_site_time_s is not None:
        waited = f"{seconds(sums.sync_site_time_s)} of {seconds(sums.sync_time_s)}"
        note += f" {waited} at {sums.sync_site}."
    return [printable(note)]


def _waits(sums: Waiting) -> str:
    return rate(sums.sync_count / sums.inference_count) if sums.sync_count else "0"


def _waited(sums: Waiting) -> str:
    return seconds(sums.sync_time_s / sums.inference_count)


def _copied(sums: Waiting, way: str) -> str:
    nbytes: int = getattr(sums, way).nbytes
    return size(round(nbytes / sums.inference_count))


def _device(row: Row) -> str:
    indexes = ",".join(str(index) for index in row.device_indexes)
    return f"{row.device_type}:{indexes}" if indexes else row.device_type


def _memory(row: Row) -> str | None:
    if row.memory_peak_bytes is not None:
        return size(row.memory_peak_bytes)
    return None if row.rss_max_bytes is None else f"{size(row.rss_max_bytes)} RSS"


def _growth(value: float) -> str:
    return f"{'-' if value < 0 else ''}{size(round(abs(value)))}"


def _loop(row: Row, cell: Callable[[LoopFigures], str | None]) -> str | None:
    return None if row.loops is None else cell(row.loops)


def _p50(times: Quantiles | None) -> str | None:
    return None if times is None else seconds(times.p50)


def _p99(times: Quantiles | None) -> str | None:
    return None if times is None else seconds(times.p99)


def _count(value: int) -> str:
    return f"{value:,}"


def _spread(spread: Spread) -> str:
    if spread.median == spread.max:
        return f"{spread.max:,}"
    return f"{spread.median:,}/{spread.max:,}"


def _maybe(value: _T | None, form: Callable[[_T], str]) -> str | None:
    return None if value is None else form(value)
