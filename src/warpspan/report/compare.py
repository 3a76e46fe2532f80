"""Two runs of a program against each other, per operation and model: pure functions on records."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isnan, nan
from typing import Any, NamedTuple, TypeAlias

from warpspan.records import Inference
from warpspan.records.enums import StrEnum
from warpspan.records.kernels import TracedInference
from warpspan.report.compare_figures import (
    FIGURES,
    RATE,
    RATE_NAME,
    TRACE_FIGURES,
    Figure,
    TraceFigure,
    Unit,
)
from warpspan.report.compare_stats import Comparison, Statistic, compare
from warpspan.report.compare_verdicts import Moved

#: Operation and model.
Key: TypeAlias = tuple[str, str | None]

#: An inference at the start is warm-up as long as it takes this many times the median.
WARM_UP_FACTOR = 3


class Outcome(StrEnum):
    """What a change is.

    `same` where none is shown, `changed` where neither way is better, `unsure` where there are too
    few values for an interval.
    """

    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    SAME = "same"
    UNSURE = "unsure"


class Change(NamedTuple):
    """A statistic of a figure in both runs.

    Args:
        name: figure and statistic, as a rule names them: `duration_p50`.
        title: for a table.
        unit: of both values.
        values: what was compared.
        outcome: what it means.
        shown: whether tables show it.
    """

    name: str
    title: str
    unit: Unit
    values: Comparison
    outcome: Outcome
    shown: bool

    def to_json(self) -> dict[str, Any]:
        """What `warpspan compare --json` prints of it; its keys are stable."""
        return {
            "figure": self.name,
            "unit": self.unit.name,
            "before": self.values.before,
            "after": self.values.after,
            "change": self.values.change,
            "low": self.values.low,
            "high": self.values.high,
            "noise": self.values.noise,
            "outcome": self.outcome.value,
        }


class Side(NamedTuple):
    """The inferences of one row in one run.

    Args:
        inference_count: all of them.
        warm_up_count: of these, those that were left out as warm-up.
        failed_count: of these, those that failed, which were left out, too.
        device_types: where they ran.
    """

    inference_count: int
    warm_up_count: int
    failed_count: int
    device_types: tuple[str, ...]

    @property
    def compared_count(self) -> int:
        """Those whose figures were compared."""
        return self.inference_count - self.warm_up_count - self.failed_count

    def to_json(self) -> dict[str, Any]:
        """What `warpspan compare --json` prints of it; its keys are stable."""
        return {**self._asdict(), "device_types": list(self.device_types)}


class ComparedRow(NamedTuple):
    """One operation and model in both runs; figures that one run lacks are named in `missing`."""

    operation: str
    model: str | None
    before: Side
    after: Side
    changes: tuple[Change, ...]
    missing: tuple[str, ...]

    @property
    def name(self) -> str:
        """Operation and model."""
        return f"{self.operation} {self.model or ''}".rstrip()

    def change(self, name: str) -> Change | None:
        """The change of that name, None where a run lacks it."""
        return next((change for change in self.changes if change.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """What `warpspan compare --json` prints of it; its keys are stable."""
        return {
            "operation": self.operation,
            "model": self.model,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "figures": [change.to_json() for change in self.changes],
            "missing": list(self.missing),
        }


class Compared(NamedTuple):
    """All rows that both runs have, the one with most time first, and those that one run lacks.

    `bottlenecks` are those of the verdicts on both runs.
    """

    rows: tuple[ComparedRow, ...]
    only_before: tuple[Key, ...]
    only_after: tuple[Key, ...]
    bottlenecks: tuple[Moved, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `warpspan compare --json` prints of it; its keys are stable."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "only_before": [_key_json(key) for key in self.only_before],
            "only_after": [_key_json(key) for key in self.only_after],
            "bottlenecks": [one.to_json() for one in self.bottlenecks],
        }


class Run:
    """What is kept of a run: some twenty numbers of each inference.

    Args:
        inferences: in any order.
        traced: those of profiler traces instead.
    """

    def __init__(
        self, inferences: Iterable[Inference] = (), traced: Iterable[TracedInference] = ()
    ) -> None:
        self.groups: dict[Key, Group] = {}
        for inference in inferences:
            self._group(inference).add(inference, None)
        for one in traced:
            self._group(one.inference).add(one.inference, one)

    def _group(self, inference: Inference) -> Group:
        key = (inference.operation, inference.model.name)
        return self.groups.setdefault(key, Group())


class Group:
    """The inferences of one operation and model in one run."""

    def __init__(self) -> None:
        self._starts_ns = array("q")
        self._ends_ns = array("q")
        self._processes: list[str] = []
        self._failed: list[bool] = []
        self._device_types: set[str] = set()
        self._values: dict[str, array[float]] = {
            figure.name: array("d") for figure in (*FIGURES, *TRACE_FIGURES)
        }

    def add(self, inference: Inference, traced: TracedInference | None) -> None:
        """Take one inference, of a trace with what the trace has beyond it."""
        self._starts_ns.append(inference.start_ns)
        self._ends_ns.append(inference.end_ns)
        self._processes.append(inference.process)
        self._failed.append(inference.error_type is not None)
        self._device_types.add(inference.device.type)
        for figure in FIGURES:
            self._values[figure.name].append(_known(figure.read(inference)))
        for in_trace in TRACE_FIGURES:
            value = None if traced is None else in_trace.read(traced)
            self._values[in_trace.name].append(_known(value))

    @property
    def duration_s(self) -> float:
        """Of all inferences together."""
        return sum(self._values["duration"])

    def kept(self) -> tuple[list[int], Side]:
        """The inferences that count, by their start, and how many do not."""
        order = sorted(range(len(self._starts_ns)), key=self._starts_ns.__getitem__)
        whole = [number for number in order if not self._failed[number]]
        cold = self._warm_up(whole)
        left = [number for number in whole if number not in cold]
        failed = len(order) - len(whole)
        return left, Side(len(order), len(cold), failed, tuple(sorted(self._device_types)))

    def _warm_up(self, order: Sequence[int]) -> set[int]:
        """The first inference of each process, and those after it that are as slow as only cold ones.

        None where nothing would be left.
        """
        durations = self._values["duration"]
        by_process: dict[str, list[int]] = {}
        for number in order:
            by_process.setdefault(self._processes[number], []).append(number)
        cold = set()
        for numbers in by_process.values():
            times = sorted(durations[number] for number in numbers)
            slow = WARM_UP_FACTOR * times[(len(times) - 1) // 2]
            for place, number in enumerate(numbers):
                if place and durations[number] < slow:
                    break
                cold.add(number)
        return cold if len(cold) < len(order) else set()

    def values(self, name: str, kept: Sequence[int]) -> list[float]:
        """The known values of a figure, by the start of their inferences."""
        values = self._values[name]
        return [values[number] for number in kept if not isnan(values[number])]

    def intervals_s(self, kept: Sequence[int]) -> list[float]:
        """Times from the end of each inference to that of the next one."""
        ends = sorted(self._ends_ns[number] for number in kept)
        return [(end - start) / 1e9 for start, end in pairwise(ends)]


def compare_runs(before: Run, after: Run) -> Compared:
    """Compare what both runs have."""
    both = [key for key in before.groups if key in after.groups]
    time_s = {key: before.groups[key].duration_s + after.groups[key].duration_s for key in both}
    return Compared(
        tuple(
            _row(key, before.groups[key], after.groups[key])
            for key in sorted(both, key=lambda key: -time_s[key])
        ),
        tuple(key for key in before.groups if key not in after.groups),
        tuple(key for key in after.groups if key not in before.groups),
    )


def _row(key: Key, before: Group, after: Group) -> ComparedRow:
    (first, first_side), (second, second_side) = before.kept(), after.kept()
    changes, missing = [], []
    for figure in (*FIGURES, *TRACE_FIGURES):
        one, other = before.values(figure.name, first), after.values(figure.name, second)
        if bool(one) != bool(other):
            missing.append(figure.name)
        if one and other:
            changes += _changes(figure, one, other)
    ends = before.intervals_s(first), after.intervals_s(second)
    if all(ends):
        rate = compare(Statistic.MEAN, *ends, inverse=True)
        if rate is not None:
            changes.append(
                Change(
                    RATE_NAME, "inferences per second", RATE, rate, _outcome(rate, 1), shown=True
                )
            )
    return ComparedRow(*key, first_side, second_side, tuple(changes), tuple(missing))


def _changes(
    figure: Figure | TraceFigure, before: Sequence[float], after: Sequence[float]
) -> list[Change]:
    changes = []
    for statistic in Statistic:
        values = compare(statistic, before, after)
        if values is not None:
            changes.append(
                Change(
                    f"{figure.name}_{statistic}",
                    f"{figure.title} {statistic}",
                    figure.unit,
                    values,
                    _outcome(values, figure.better),
                    statistic in figure.shown and (any(before) or any(after)),
                )
            )
    return changes


def _outcome(values: Comparison, better: int) -> Outcome:
    if values.shown == 0:
        return Outcome.SAME
    if values.few:
        return Outcome.UNSURE
    if better == 0:
        return Outcome.CHANGED
    return Outcome.BETTER if values.shown == better else Outcome.WORSE


def _known(value: float | None) -> float:
    return nan if value is None else value


def _key_json(key: Key) -> dict[str, str | None]:
    return {"operation": key[0], "model": key[1]}
