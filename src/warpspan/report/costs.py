"""What the inferences of one row had of the GPU and of the processor, and their first calls."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any, NamedTuple

from warpspan.records import Inference
from warpspan.report.quantiles import Quantiles, quantiles

_MEANS = (
    "gpu_time_s",
    "sm_cycles_active",
    "sm_cycles_elapsed",
    "energy_j",
    "sm_utilization",
    "utilization",
    "cpu_time_s",
    "gc_time_s",
)


class CostFigures(NamedTuple):
    """Means of the inferences in a row that have a value. None is: not measured.

    Args:
        gpu_time_s: GPU-seconds, shared where inferences overlapped.
        sm_cycles_active: cycles in which multiprocessors worked, summed over them.
        sm_cycles_elapsed: cycles of the multiprocessors' clock.
        energy_j: joules.
        sm_utilization: share of the multiprocessors that worked, from 0 to 1.
        utilization: share of the time in which any kernel ran, from 0 to 1.
        cpu_time_s: processor time of the calling thread.
        gc_time_s: time in Python's garbage collector.
        gc_count: collections in all inferences together.
        throttled_share: share of the inferences during which the GPU was throttled.
        throttle_reasons: inferences by reason.
        oom_requested_max_bytes: largest allocation that failed.
    """

    gpu_time_s: float | None = None
    sm_cycles_active: float | None = None
    sm_cycles_elapsed: float | None = None
    energy_j: float | None = None
    sm_utilization: float | None = None
    utilization: float | None = None
    cpu_time_s: float | None = None
    gc_time_s: float | None = None
    gc_count: int | None = None
    throttled_share: float | None = None
    throttle_reasons: dict[str, int] = {}  # noqa: RUF012 - nobody changes it
    oom_requested_max_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """What a row has under `costs` as `warpspan report --json` prints it; its keys are stable."""
        return self._asdict()


class CostTotals:
    """Adds up what inferences cost: a sum and a count of each figure."""

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._gc_count: int | None = None
        self._sampled = self._throttled = 0
        self._reasons: Counter[str] = Counter()
        self._oom_bytes: int | None = None

    def add(self, inference: Inference) -> None:
        """Take one inference."""
        usage, timing, memory = inference.usage, inference.timing, inference.memory
        for name in _MEANS:
            value = getattr(timing if name in timing._fields else usage, name, None)
            if value is not None:
                self._sums[name] += value
                self._counts[name] += 1
        if timing.gc_count is not None:
            self._gc_count = (self._gc_count or 0) + timing.gc_count
        if usage is not None and usage.throttle_reasons is not None:
            self._sampled += 1
            self._throttled += bool(usage.throttle_reasons)
            self._reasons.update(usage.throttle_reasons)
        if memory is not None and memory.oom_requested_bytes is not None:
            self._oom_bytes = max(self._oom_bytes or 0, memory.oom_requested_bytes)

    def figures(self) -> CostFigures | None:
        """The figures, or None where there are none."""
        means = {name: self._sums[name] / count for name, count in self._counts.items()}
        figures = CostFigures(
            **means,
            gc_count=self._gc_count,
            throttled_share=self._throttled / self._sampled if self._sampled else None,
            throttle_reasons=dict(self._reasons.most_common()),
            oom_requested_max_bytes=self._oom_bytes,
        )
        return None if figures == CostFigures() else figures


class FirstCalls(NamedTuple):
    """The first inference of each process, which may compile and warm up, and all later ones.

    Args:
        first_s: the longest of the first ones.
        later_s: durations of the later ones.
    """

    first_s: float
    later_s: Quantiles

    @property
    def stands_out(self) -> bool:
        """Whether it took twice as long as nearly all later ones."""
        return self.first_s > 2 * self.later_s.p99

    def to_json(self) -> dict[str, Any]:
        """What a row has of them as `warpspan report --json` prints it; its keys are stable."""
        return {
            "first_call_s": self.first_s,
            "later_duration_p50_s": self.later_s.p50,
            "later_duration_p95_s": self.later_s.p95,
            "later_duration_p99_s": self.later_s.p99,
        }


class FirstCallsTotals:
    """Finds the first inference of each process."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[int, float]] = {}

    def add(self, inference: Inference) -> None:
        """Take one inference."""
        call = (inference.start_ns, inference.duration_s)
        first = self._first.get(inference.process)
        if first is None or call < first:
            self._first[inference.process] = call

    def figures(self, durations_s: array[float]) -> FirstCalls | None:
        """The figures, or None where each process has one inference.

        Args:
            durations_s: of all inferences.
        """
        later = array("d", durations_s)
        for _, duration_s in self._first.values():
            later.remove(duration_s)
        if not later:
            return None
        return FirstCalls(max(first_s for _, first_s in self._first.values()), quantiles(later))
