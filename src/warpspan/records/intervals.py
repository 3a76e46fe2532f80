"""Sets of time: sorted, disjoint intervals in nanoseconds, and what can be done with them."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Intervals:
    """An immutable set of time.

    Intervals that touch or overlap are one, and empty ones are none. Half open: an interval holds
    its start and not its end. 16 bytes an interval.

    Args:
        pairs: start and end of each in nanoseconds, in any order; an end before its start is an
            empty interval.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._starts, self._ends = array("q"), array("q")
        self._add(sorted(pairs))

    @classmethod
    def by_start(cls, pairs: Iterable[tuple[int, int]]) -> Intervals:
        """Of pairs that come by start: without holding and sorting them."""
        made = cls()
        made._add(pairs)
        return made

    def _add(self, pairs: Iterable[tuple[int, int]]) -> None:
        starts, ends = self._starts, self._ends
        for start_ns, end_ns in pairs:
            if end_ns <= start_ns:
                continue
            if ends and start_ns <= ends[-1]:
                ends[-1] = max(ends[-1], end_ns)
            else:
                starts.append(start_ns)
                ends.append(end_ns)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __len__(self) -> int:
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Intervals):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    def __hash__(self) -> int:
        return hash((self._starts.tobytes(), self._ends.tobytes()))

    def __repr__(self) -> str:
        return f"Intervals({list(self)})"

    @property
    def start_ns(self) -> int | None:
        """Start of the first one, None where there is none."""
        return self._starts[0] if self._starts else None

    @property
    def end_ns(self) -> int | None:
        """End of the last one, None where there is none."""
        return self._ends[-1] if self._ends else None

    @property
    def total_ns(self) -> int:
        """Their length together."""
        return sum(self._ends) - sum(self._starts)

    @property
    def total_s(self) -> float:
        """Their length together in seconds."""
        return self.total_ns / 1e9

    def gaps(self) -> Intervals:
        """The time between the first start and the last end that is in none of them."""
        return Intervals.by_start(zip(self._ends, self._starts[1:], strict=False))

    def within(self, start_ns: int, end_ns: int) -> Intervals:
        """Their part from `start_ns` until `end_ns`."""
        first = bisect_right(self._ends, start_ns)
        last = bisect_left(self._starts, end_ns)
        starts, ends = self._starts[first:last], self._ends[first:last]
        return Intervals.by_start(
            (max(start, start_ns), min(end, end_ns))
            for start, end in zip(starts, ends, strict=True)
        )

    def __or__(self, other: Intervals) -> Intervals:
        """The time in either."""
        return Intervals((*self, *other))

    def __and__(self, other: Intervals) -> Intervals:
        """The time in both."""
        return Intervals.by_start(_common(self, other))

    def __sub__(self, other: Intervals) -> Intervals:
        """The time in the first and not in the second."""
        if not self._starts:
            return self
        return self & other._outside(self._starts[0], self._ends[-1])

    def _outside(self, start_ns: int, end_ns: int) -> Intervals:
        inside = self.within(start_ns, end_ns)
        edges = [start_ns, *(edge for pair in inside for edge in pair), end_ns]
        return Intervals.by_start(zip(edges[::2], edges[1::2], strict=True))


def _common(one: Intervals, other: Intervals) -> Iterator[tuple[int, int]]:
    ones, others = iter(one), iter(other)
    first, second = next(ones, None), next(others, None)
    while first is not None and second is not None:
        start_ns, end_ns = max(first[0], second[0]), min(first[1], second[1])
        if start_ns < end_ns:
            yield start_ns, end_ns
        if first[1] <= second[1]:
            first = next(ones, None)
        else:
            second = next(others, None)
