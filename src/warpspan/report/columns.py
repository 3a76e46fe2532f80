"""The columns of the report's table: a heading, and the cell of a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from warpspan.records.units import cycles, joules, printable, rate, seconds, share, size
from warpspan.report.blocks import Column
from warpspan.report.costs import CostFigures, FirstCalls
from warpspan.report.loops import LoopFigures
from warpspan.report.quantiles import Quantiles
from warpspan.report.summary import Row, Spread
from warpspan.report.syncs import Waiting

_T = TypeVar("_T")


class _Source(NamedTuple):
    """A column before it has rows.

    Args:
        heading: as `Column` has it.
        cell: of a row; None where nothing was measured.
        is_text: as `Column` has it.
        style: likewise.
        worth: whether a row is worth the column, which is left out where none is.
    """

    heading: str
    cell: Callable[[Row], str | None]
    is_text: bool = False
    style: str = ""
    worth: Callable[[Row], object] = lambda _: True


def columns(rows: Sequence[Row]) -> list[Column]:
    """All columns of the rows, the names first."""
    return [
        Column(source.heading, [source.cell(row) for row in rows], source.is_text, source.style)
        for source in _SOURCES
        if any(source.worth(row) for row in rows)
    ]


def name(row: Row) -> str:
    """Operation and model."""
    return printable(f"{row.operation} {row.model or ''}".rstrip())


def memory(row: Row) -> str | None:
    """Peak of the device's memory, else of the process's."""
    if row.memory_peak_bytes is not None:
        return size(row.memory_peak_bytes)
    return None if row.rss_max_bytes is None else f"{size(row.rss_max_bytes)} RSS"


def _device(row: Row) -> str:
    indexes = ",".join(str(index) for index in row.device_indexes)
    return f"{row.device_type}:{indexes}" if indexes else row.device_type


def _maybe(value: _T | None, form: Callable[[_T], str]) -> str | None:
    return None if value is None else form(value)


def _loop(cell: Callable[[LoopFigures], str | None]) -> Callable[[Row], str | None]:
    return lambda row: _maybe_of(row.loops, cell)


def _cost(cell: Callable[[CostFigures], str | None]) -> Callable[[Row], str | None]:
    return lambda row: _maybe_of(row.costs, cell)


def _waiting(cell: Callable[[Waiting], str]) -> Callable[[Row], str | None]:
    return lambda row: _maybe_of(row.waiting, cell)


def _first(cell: Callable[[FirstCalls], str]) -> Callable[[Row], str | None]:
    return lambda row: _maybe_of(row.first_calls, cell)


def _stands_out(row: Row) -> bool:
    return row.first_calls is not None and row.first_calls.stands_out


def _maybe_of(figures: _T | None, cell: Callable[[_T], str | None]) -> str | None:
    return None if figures is None else cell(figures)


def _p50(times: Quantiles | None) -> str | None:
    return None if times is None else seconds(times.p50)


def _p99(times: Quantiles | None) -> str | None:
    return None if times is None else seconds(times.p99)


def _spread(spread: Spread) -> str:
    if spread.median == spread.max:
        return f"{spread.max:,}"
    return f"{spread.median:,}/{spread.max:,}"


def _growth(value: float) -> str:
    return f"{'-' if value < 0 else ''}{size(round(abs(value)))}"


def _waits(sums: Waiting) -> str:
    return rate(sums.sync_count / sums.inference_count) if sums.sync_count else "0"


def _waited(sums: Waiting) -> str:
    return seconds(sums.sync_time_s / sums.inference_count)


def _copied(sums: Waiting, way: str) -> str:
    nbytes: int = getattr(sums, way).nbytes
    return size(round(nbytes / sums.inference_count))


_SOURCES = (
    _Source("inference\n", name, is_text=True),
    _Source("count\n", lambda row: f"{row.inference_count:,}"),
    _Source("failed\n", lambda row: f"{sum(row.errors.values()):,}", worth=lambda row: row.errors),
    _Source("rate\n1/s", lambda row: _maybe(row.rate_per_s, rate)),
    _Source("duration\np50", lambda row: seconds(row.duration_s.p50), style="bold"),
    _Source("duration\np95", lambda row: seconds(row.duration_s.p95)),
    _Source("duration\np99", lambda row: seconds(row.duration_s.p99)),
    _Source("first\ncall", _first(lambda of: seconds(of.first_s)), worth=_stands_out),
    _Source("later\np99", _first(lambda of: seconds(of.later_s.p99)), worth=_stands_out),
    _Source("processor\ntime", _cost(lambda of: _maybe(of.cpu_time_s, seconds))),
    _Source(
        "garbage\ncollector",
        _cost(lambda of: _maybe(of.gc_time_s, seconds)),
        worth=lambda row: row.costs is not None and row.costs.gc_count,
    ),
    _Source("idle\nshare", lambda row: _maybe(row.idle_share, share)),
    _Source("device\n", lambda row: printable(_device(row)), is_text=True),
    _Source("device\ntime p50", lambda row: _p50(row.device_time_s)),
    _Source("device\nshare", lambda row: _maybe(row.device_share, share)),
    _Source("GPU-s\nper call", _cost(lambda of: _maybe(of.gpu_time_s, seconds))),
    _Source("SM cycles\nactive", _cost(lambda of: _maybe(of.sm_cycles_active, cycles))),
    _Source("SM cycles\nclock", _cost(lambda of: _maybe(of.sm_cycles_elapsed, cycles))),
    _Source("energy\nper call", _cost(lambda of: _maybe(of.energy_j, joules))),
    _Source("SM\nused", _cost(lambda of: _maybe(of.sm_utilization, share))),
    _Source("kernels\nrunning", _cost(lambda of: _maybe(of.utilization, share))),
    _Source(
        "throttled\ncalls",
        _cost(lambda of: _maybe(of.throttled_share, share)),
        worth=lambda row: row.costs is not None and row.costs.throttled_share,
    ),
    _Source("memory\nmax", memory),
    _Source("failed\nallocation", _cost(lambda of: _maybe(of.oom_requested_max_bytes, size))),
    _Source("batch\np50/max", lambda row: _maybe(row.batch_size, _spread)),
    _Source("sequence\np50/max", lambda row: _maybe(row.sequence_length, _spread)),
    _Source("KV cache\nmax", lambda row: _maybe(row.kv_cache_max_bytes, size)),
    _Source("KV cache\ngrowth", lambda row: _maybe(row.kv_cache_growth_bytes, _growth)),
    _Source("waits\nper call", _waiting(_waits)),
    _Source("waits\ntime", _waiting(_waited)),
    _Source("H2D\nper call", _waiting(lambda sums: _copied(sums, "h2d"))),
    _Source("D2H\nper call", _waiting(lambda sums: _copied(sums, "d2h"))),
    _Source("first token\np50", _loop(lambda of: _p50(of.first_token_s))),
    _Source("first token\np99", _loop(lambda of: _p99(of.first_token_s))),
    _Source("per token\np50", _loop(lambda of: _p50(of.token_s))),
    _Source("per token\np99", _loop(lambda of: _p99(of.token_s))),
    _Source("tokens\n1/s", _loop(lambda of: _maybe(of.tokens_per_s, rate))),
    _Source("between\nsteps", _loop(lambda of: _maybe(of.between_share, share))),
    _Source("denoise\nsteps", _loop(lambda of: _maybe(of.denoise_steps, lambda n: f"{n:,}"))),
    _Source("per step\np50", _loop(lambda of: _p50(of.denoise_step_s))),
    _Source("per step\np99", _loop(lambda of: _p99(of.denoise_step_s))),
)
