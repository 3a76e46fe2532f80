"""What of an inference is compared: the closed set of figures, by the names that rules use."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from warpspan.records import Inference
from warpspan.records.kernels import TracedInference
from warpspan.records.units import seconds, size
from warpspan.report.compare_stats import Statistic

P50, P95, P99, MEAN, MAX = Statistic


class Unit(NamedTuple):
    """A unit: how its values are shown, and the names that a rule may use for multiples of it."""

    name: str
    form: Callable[[float], str]
    multiples: dict[str, float]


def _number(value: float) -> str:
    """Three significant digits, with a unit of thousands: `412`, `1.21 M`."""
    for limit, letter in ((999.5e9, "T"), (999.5e6, "G"), (999.5e3, "M"), (999.5, "k")):
        if value >= limit:
            return f"{value / {'T': 1e12, 'G': 1e9, 'M': 1e6, 'k': 1e3}[letter]:.3g} {letter}"
    return f"{value:.3g}"


def _energy(value: float) -> str:
    return f"{value * 1e3:.3g} mJ" if 0 < value < 0.9995 else f"{_number(value)} J"


def _rate(value: float) -> str:
    return f"{_number(value)}/s"


def _bytes(value: float) -> str:
    return f"-{size(round(-value))}" if value < 0 else size(round(value))


SECONDS = Unit("s", seconds, {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0})
BYTES = Unit(
    "By",
    _bytes,
    {
        "B": 1.0,
        **{f"{prefix}B": 1e3**power for power, prefix in enumerate("kMGT", 1)},
        **{f"{prefix}iB": 1024.0**power for power, prefix in enumerate("KMGT", 1)},
    },
)
JOULES = Unit("J", _energy, {"mJ": 1e-3, "J": 1.0, "kJ": 1e3})
RATE = Unit("1/s", _rate, {"/s": 1.0})
COUNT = Unit("1", _number, {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9})


class Figure(NamedTuple):
    """One figure of an inference.

    Args:
        name: in rules and JSON, before the statistic.
        title: in tables.
        unit: of its values.
        read: its value, None where it was not measured.
        shown: the statistics that tables show.
        better: 1 where more is better, -1 where less is, 0 where neither is.
    """

    name: str
    title: str
    unit: Unit
    read: Callable[[Inference], float | None]
    shown: tuple[Statistic, ...]
    better: int = -1


FIGURES = (
    Figure("duration", "duration", SECONDS, lambda one: one.duration_s, (P50, P95, P99)),
    Figure("device_time", "device time", SECONDS, lambda one: one.timing.device_time_s, (P50, P95)),
    Figure("queue_time", "queue", SECONDS, lambda one: one.timing.queue_time_s, (MEAN,)),
    Figure("idle_time", "device idle before", SECONDS, lambda one: one.timing.idle_time_s, (MEAN,)),
    Figure("cpu_time", "processor time", SECONDS, lambda one: one.timing.cpu_time_s, (MEAN,)),
    Figure("sync_time", "waits", SECONDS, lambda one: one.syncs and one.syncs.stalled_s, (MEAN,)),
    Figure(
        "first_token",
        "first token",
        SECONDS,
        lambda one: one.loop and one.loop.generation and one.loop.generation.first_token_s,
        (P50,),
    ),
    Figure(
        "token_time",
        "per token",
        SECONDS,
        lambda one: one.loop and one.loop.generation and one.loop.generation.token_mean_s,
        (P50,),
    ),
    Figure(
        "gpu_time", "GPU time", SECONDS, lambda one: one.usage and one.usage.gpu_time_s, (MEAN,)
    ),
    Figure(
        "sm_cycles",
        "SM cycles active",
        COUNT,
        lambda one: one.usage and one.usage.sm_cycles_active,
        (MEAN,),
    ),
    Figure("energy", "energy", JOULES, lambda one: one.usage and one.usage.energy_j, (MEAN,)),
    Figure(
        "memory_peak",
        "memory peak",
        BYTES,
        lambda one: one.memory and one.memory.peak_bytes,
        (MAX,),
    ),
    Figure("rss", "RSS", BYTES, lambda one: one.memory and one.memory.rss_bytes, (MAX,)),
    Figure("kv_cache", "KV cache", BYTES, lambda one: one.cache and one.cache.size_bytes, (MAX,)),
    Figure(
        "kv_cache_alive",
        "KV caches alive",
        BYTES,
        lambda one: one.cache and one.cache.alive_bytes,
        (MAX,),
    ),
    Figure("batch_size", "batch size", COUNT, lambda one: one.input.batch_size, (MEAN,), 0),
    Figure(
        "sequence_length",
        "sequence length",
        COUNT,
        lambda one: one.input.sequence_length,
        (MEAN,),
        0,
    ),
    Figure("concurrency", "concurrency", COUNT, lambda one: one.timing.concurrency, (MEAN,), 0),
)

RATE_NAME = "rate"
"""The figure that no single inference has: inferences per second."""


class TraceFigure(NamedTuple):
    """One figure of an inference in a profiler's trace; fields as those of `Figure`."""

    name: str
    title: str
    unit: Unit
    read: Callable[[TracedInference], float | None]
    shown: tuple[Statistic, ...]
    better: int = -1


def _total(one: TracedInference, name: str) -> float | None:
    values = [getattr(work, name) for work in one.work]
    return sum(values) if values and None not in values else None


TRACE_FIGURES = (
    TraceFigure("busy", "device busy", SECONDS, lambda one: _total(one, "busy_s"), (P50,)),
    TraceFigure(
        "idle_inside", "device idle inside", SECONDS, lambda one: _total(one, "idle_s"), (P50,)
    ),
    TraceFigure(
        "copies_alone", "copies alone", SECONDS, lambda one: _total(one, "copies_alone_s"), (P50,)
    ),
    TraceFigure("kernels", "kernels", COUNT, lambda one: _total(one, "kernel_count"), (MEAN,)),
    TraceFigure("launches", "launches", COUNT, lambda one: _total(one, "launch_count"), (MEAN,)),
)

UNITS = {figure.name: figure.unit for figure in (*FIGURES, *TRACE_FIGURES)} | {RATE_NAME: RATE}
"""All figures that a rule may name."""
