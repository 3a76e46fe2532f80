"""One row per model and operation out of any number of inferences: pure functions on records."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NamedTuple

from warpspan.records import Inference
from warpspan.report.costs import CostFigures, CostTotals, FirstCalls, FirstCallsTotals
from warpspan.report.leaks import Leak
from warpspan.report.loops import LoopFigures, LoopTotals
from warpspan.report.quantiles import Quantiles, quantiles, rank
from warpspan.report.syncs import Waiting, WaitingSum


class Spread(NamedTuple):
    """Median (nearest rank) and maximum."""

    median: int
    max: int


class Row(NamedTuple):
    """Inferences of one operation, model and device type. None is: not measured.

    Args:
        operation: what ran.
        model: class name of the model, None where an inference has none.
        device_type: as torch names it.
        device_indexes: the devices of that type that ran it.
        inference_count: failed ones included.
        errors: how many failed, by the class of the exception.
        rate_per_s: inferences over the time from the first start to the last end. None for one
            inference.
        duration_s: on the host.
        device_time_s: on the device, where it was measured.
        device_share: device time over host duration, of the inferences with a device time. Above 1
            where calls return before the device has done their work.
        memory_peak_bytes: highest peak of live tensors inside an inference.
        rss_max_bytes: highest resident memory of a process after an inference on a CPU.
        batch_size: of the inputs that have one.
        sequence_length: of the inputs that have one.
        idle_share: see `_idle_share`.
        kv_cache_max_bytes: largest KV cache at the end of an inference.
        kv_cache_growth_bytes: mean of what inferences added to their KV caches.
        loops: what loops of generation or diffusion say, or None.
        waiting: waits for the device and copies, None where there were none.
        costs: of the GPU and the processor.
        first_calls: the first inference of each process beside the later ones; None where each
            process has one.
    """

    operation: str
    model: str | None
    device_type: str
    device_indexes: tuple[int, ...]
    inference_count: int
    errors: dict[str, int]
    rate_per_s: float | None
    duration_s: Quantiles
    device_time_s: Quantiles | None
    device_share: float | None
    memory_peak_bytes: int | None
    rss_max_bytes: int | None
    batch_size: Spread | None
    sequence_length: Spread | None
    idle_share: float | None
    kv_cache_max_bytes: int | None = None
    kv_cache_growth_bytes: float | None = None
    loops: LoopFigures | None = None
    waiting: Waiting | None = None
    costs: CostFigures | None = None
    first_calls: FirstCalls | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as `warpspan report --json` prints it; its keys are stable."""
        device = self.device_time_s or (None, None, None)
        batch = self.batch_size or (None, None)
        sequence = self.sequence_length or (None, None)
        return {
            "operation": self.operation,
            "model": self.model,
            "device_type": self.device_type,
            "device_indexes": list(self.device_indexes),
            "inference_count": self.inference_count,
            "error_count": sum(self.errors.values()),
            "errors": self.errors,
            "rate_per_s": self.rate_per_s,
            "duration_p50_s": self.duration_s.p50,
            "duration_p95_s": self.duration_s.p95,
            "duration_p99_s": self.duration_s.p99,
            "device_time_p50_s": device[0],
            "device_time_p95_s": device[1],
            "device_time_p99_s": device[2],
            "device_share": self.device_share,
            "memory_peak_bytes": self.memory_peak_bytes,
            "rss_max_bytes": self.rss_max_bytes,
            "batch_size_median": batch[0],
            "batch_size_max": batch[1],
            "sequence_length_median": sequence[0],
            "sequence_length_max": sequence[1],
            "idle_share": self.idle_share,
            "kv_cache_max_bytes": self.kv_cache_max_bytes,
            "kv_cache_growth_bytes": self.kv_cache_growth_bytes,
            "loops": None if self.loops is None else self.loops.to_json(),
            "costs": None if self.costs is None else self.costs.to_json(),
            **(self.first_calls.to_json() if self.first_calls is not None else {}),
            **(self.waiting.to_json() if self.waiting is not None else {}),
        }


class Summary(NamedTuple):
    """All rows, the one with the most time on the host first.

    Args:
        rows: one per operation, model and device type.
        inference_count: those in all rows.
        error_count: those that failed.
        process_count: processes that ran them.
        elapsed_s: from the first start to the last end, 0 without an inference.
        leaks: KV caches that grow and are not released.
    """

    rows: tuple[Row, ...]
    inference_count: int
    error_count: int
    process_count: int
    elapsed_s: float
    leaks: tuple[Leak, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The summary as `warpspan report --json` prints it; its keys are stable."""
        return {
            "inference_count": self.inference_count,
            "error_count": self.error_count,
            "process_count": self.process_count,
            "elapsed_s": self.elapsed_s,
            "rows": [row.to_json() for row in self.rows],
            "kv_cache_leaks": [leak.to_json() for leak in self.leaks],
        }


def summarize(inferences: Iterable[Inference]) -> Summary:
    """Summarize inferences in any order, in one pass.

    Keeps four numbers of each (32 bytes; its span in a file takes some 3,000), so that percentiles
    and idle time are exact.
    """
    groups: dict[tuple[str, str, str], _Group] = {}
    processes: set[str] = set()
    for inference in inferences:
        processes.add(inference.process)
        key = (inference.operation, inference.model.name or "", inference.device.type)
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(inference)
        group.add(inference)
    ordered = sorted(groups.values(), key=lambda group: (-sum(group.durations_s), group.key))
    rows = tuple(group.row() for group in ordered)
    return Summary(
        rows=rows,
        inference_count=sum(row.inference_count for row in rows),
        error_count=sum(sum(row.errors.values()) for row in rows),
        process_count=len(processes),
        elapsed_s=_elapsed_s(ordered),
    )


class _Group:
    """What is kept of the inferences of one row."""

    def __init__(self, first: Inference) -> None:
        self.key = (first.operation, first.model.name or "", first.device.type)
        self.model = first.model.name
        self.start_ns = first.start_ns
        self.end_ns = first.end_ns
        self.durations_s = array("d")
        self.device_times_s = array("d")
        self.device_host_s = 0.0
        self.batch_sizes: Counter[int] = Counter()
        self.sequence_lengths: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.indexes: set[int] = set()
        self.peak_bytes: int | None = None
        self.rss_bytes: int | None = None
        self.idle_s: float | None = None
        self.cache_bytes: int | None = None
        self.cache_growths = array("q")
        self.busy: dict[tuple[str, int | None], _Intervals] = {}
        self.loops: LoopTotals | None = None
        self.waiting = WaitingSum()
        self.costs = CostTotals()
        self.first_calls = FirstCallsTotals()

    def add(self, inference: Inference) -> None:
        device, timing, memory = inference.device, inference.timing, inference.memory
        self.start_ns = min(self.start_ns, inference.start_ns)
        self.end_ns = max(self.end_ns, inference.end_ns)
        self.durations_s.append(inference.duration_s)
        if timing.device_time_s is not None:
            self.device_times_s.append(timing.device_time_s)
            self.device_host_s += inference.duration_s
        if timing.idle_time_s is not None:
            self.idle_s = (self.idle_s or 0.0) + timing.idle_time_s
        if inference.input.batch_size is not None:
            self.batch_sizes[inference.input.batch_size] += 1
        if inference.input.sequence_length is not None:
            self.sequence_lengths[inference.input.sequence_length] += 1
        if inference.error_type is not None:
            self.errors[inference.error_type] += 1
        if device.ordinal is not None:
            self.indexes.add(device.ordinal)
        if memory is not None:
            self.peak_bytes = _highest(self.peak_bytes, memory.peak_bytes)
            self.rss_bytes = _highest(self.rss_bytes, memory.rss_bytes)
        cache = inference.cache
        if cache is not None:
            self.cache_bytes = _highest(self.cache_bytes, cache.size_bytes)
            if cache.increase_bytes is not None:
                self.cache_growths.append(cache.increase_bytes)
        if inference.loop is not None:
            self.loops = self.loops or LoopTotals()
            self.loops.add(inference.loop)
        self.waiting.add(inference)
        self.costs.add(inference)
        self.first_calls.add(inference)
        place = (inference.process, device.ordinal)
        self.busy.setdefault(place, _Intervals()).add(*_busy_ns(inference))

    def row(self) -> Row:
        operation, _, device_type = self.key
        elapsed_s = _elapsed_s([self])
        count = len(self.durations_s)
        device_s = sum(self.device_times_s)
        return Row(
            operation=operation,
            model=self.model,
            device_type=device_type,
            device_indexes=tuple(sorted(self.indexes)),
            inference_count=count,
            errors=dict(self.errors.most_common()),
            rate_per_s=count / elapsed_s if count > 1 and elapsed_s > 0 else None,
            duration_s=quantiles(self.durations_s),
            device_time_s=quantiles(self.device_times_s) if self.device_times_s else None,
            device_share=device_s / self.device_host_s if self.device_host_s > 0 else None,
            memory_peak_bytes=self.peak_bytes,
            rss_max_bytes=self.rss_bytes,
            batch_size=_spread(self.batch_sizes),
            sequence_length=_spread(self.sequence_lengths),
            idle_share=_idle_share(self.idle_s, self.busy.values()),
            kv_cache_max_bytes=self.cache_bytes,
            kv_cache_growth_bytes=_mean(self.cache_growths),
            loops=None if self.loops is None else self.loops.figures(elapsed_s),
            waiting=self.waiting.total(),
            costs=self.costs.figures(),
            first_calls=self.first_calls.figures(self.durations_s),
        )


class _Intervals:
    """Times in nanoseconds during which something was busy."""

    def __init__(self) -> None:
        self._starts_ns = array("q")
        self._ends_ns = array("q")

    def add(self, start_ns: int, end_ns: int) -> None:
        self._starts_ns.append(start_ns)
        self._ends_ns.append(end_ns)

    def union_ns(self) -> int:
        """Length of the union: overlapping times count once."""
        total_ns, until_ns = 0, 0
        for start_ns, end_ns in sorted(zip(self._starts_ns, self._ends_ns, strict=True)):
            if end_ns > until_ns:
                total_ns += end_ns - max(start_ns, until_ns)
                until_ns = end_ns
        return total_ns


def _busy_ns(inference: Inference) -> tuple[int, int]:
    """When it kept its device busy: device time where it was measured, the host's elsewhere."""
    timing = inference.timing
    if timing.device_time_s is None:
        return inference.start_ns, inference.end_ns
    start_ns = inference.start_ns + round((timing.queue_time_s or 0.0) * 1e9)
    return start_ns, start_ns + round(timing.device_time_s * 1e9)


def _idle_share(idle_s: float | None, busy: Iterable[_Intervals]) -> float | None:
    """Share of time that devices waited between inferences: idle / (idle + busy).

    Idle is the sum of `pytorch.device.idle.time`: from the end of the previous inference of the
    process on that device, whatever its model, to the start of one of this row. Busy is, for each
    process and device, the length of the union of the times in which inferences of this row kept
    it busy, so that overlapping ones are not counted twice: device time where it was measured (from
    start + queue time on), host duration elsewhere, as on a CPU. None where no inference tells its
    idle time: the first of a process can't.
    """
    if idle_s is None:
        return None
    busy_s = sum(intervals.union_ns() for intervals in busy) / 1e9
    return idle_s / (idle_s + busy_s) if idle_s + busy_s > 0 else None


def _elapsed_s(groups: list[_Group]) -> float:
    if not groups:
        return 0.0
    first_ns = min(group.start_ns for group in groups)
    return (max(group.end_ns for group in groups) - first_ns) / 1e9


def _highest(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _mean(values: array[int]) -> float | None:
    return sum(values) / len(values) if values else None


def _spread(sizes: Counter[int]) -> Spread | None:
    if not sizes:
        return None
    ordered = sorted(sizes)
    reached = list(accumulate(sizes[size] for size in ordered))
    median = ordered[bisect_right(reached, rank(50, reached[-1]))]
    return Spread(median=median, max=ordered[-1])
