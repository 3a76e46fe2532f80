"""What must not grow: memory, threads, file descriptors, child processes, series of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from warpspan.probes.memory import process_rss_bytes

# What the last quarter may have more than the second one: the first warms up.
_RSS_SHARE, _RSS_BYTES = 0.03, 16 << 20
_TASKS = Path("/proc/self/task")
_SLACK = {"threads": 2, "descriptors": 4, "children": 1, "series": 0}


class Reading(NamedTuple):
    """The process at one time.

    Args:
        rss_bytes: resident memory.
        threads: of this process, those of C included.
        descriptors: open files and sockets.
        children: child processes.
        series: time series of metrics.
    """

    rss_bytes: int
    threads: int
    descriptors: int
    children: int
    series: int


def read(reader: InMemoryMetricReader) -> Reading:
    """Look at this process. Needs Linux."""
    return Reading(
        process_rss_bytes() or 0,
        sum(1 for _ in _TASKS.iterdir()),
        sum(1 for _ in Path("/proc/self/fd").iterdir()),
        sum(len((task / "children").read_text().split()) for task in _TASKS.iterdir()),
        _series(reader),
    )


def growth(readings: Sequence[Reading]) -> list[str]:
    """What grew from the second quarter of the readings to the last one, a sentence for each."""
    if len(readings) < 4:
        return ["there are fewer than four readings: let it run longer"]
    quarter = len(readings) // 4
    before, after = readings[quarter : 2 * quarter], readings[-quarter:]
    said = []
    for field in Reading._fields:
        was = max(getattr(reading, field) for reading in before)
        now = max(getattr(reading, field) for reading in after)
        slack = _SLACK.get(field, _RSS_BYTES + _RSS_SHARE * was)
        if now > was + slack:
            said.append(f"{field} grew from {was:,} to {now:,}")
    return said


def _series(reader: InMemoryMetricReader) -> int:
    data = reader.get_metrics_data()
    return sum(
        len(metric.data.data_points)
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
