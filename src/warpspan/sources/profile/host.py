"""Threads of the host: what encloses what, and who ran in a gap."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from warpspan.records.intervals import Intervals
from warpspan.records.kernels import HostShare
from warpspan.sources.profile.recording import HostSpans, Recording

_WAIT = re.compile(
    r"Synchronize|MemcpyWithStream|Stream Sync|Event Sync|Context Sync"
    r"|(?:cuda|hip)Memcpy(?:2D|3D|DtoH|HtoD|ToSymbol|FromSymbol)?$"
)


def is_wait(call: str) -> bool:
    """Whether a call of driver or runtime returns when the device has got somewhere."""
    return _WAIT.search(call) is not None


class Overlap(NamedTuple):
    """A span that ran during a gap: its index, its part of the gap, and that without children."""

    at: int
    overlap_ns: int
    own_ns: int


class HostIndex:
    """Sorted spans of the host, by thread and with the one around each.

    Args:
        spans: sorted.
    """

    def __init__(self, spans: HostSpans) -> None:
        self.spans = spans
        self.parents = array("q", [-1]) * len(spans)
        self._ranges: dict[int, tuple[int, int]] = {}
        first = 0
        for at in range(1, len(spans) + 1):
            if at == len(spans) or spans.threads[at] != spans.threads[first]:
                self._ranges[spans.threads[first]] = (first, at)
                self._find_parents(first, at)
                first = at

    def _find_parents(self, first: int, last: int) -> None:
        starts, ends, parents = self.spans.starts, self.spans.ends, self.parents
        around: list[int] = []
        for at in range(first, last):
            while around and (ends[around[-1]] <= starts[at] or ends[around[-1]] < ends[at]):
                around.pop()
            if around:
                parents[at] = around[-1]
            around.append(at)

    def innermost(self, thread: int, time_ns: int) -> int:
        """Index of the innermost span on a thread at a time, -1 where there is none."""
        first, last = self._ranges.get(thread, (0, 0))
        at = bisect_right(self.spans.starts, time_ns, first, last) - 1
        if at < first:
            return -1
        while at >= 0 and self.spans.ends[at] <= time_ns:
            at = self.parents[at]
        return at

    def around(self, at: int) -> Iterator[int]:
        """A span and those around it, outward."""
        while at >= 0:
            yield at
            at = self.parents[at]

    def started(self, thread: int, start_ns: int, end_ns: int) -> range:
        """Indexes of the spans on a thread that begin in a time."""
        first, last = self._ranges.get(thread, (0, 0))
        return range(
            bisect_left(self.spans.starts, start_ns, first, last),
            bisect_left(self.spans.starts, end_ns, first, last),
        )

    def during(self, thread: int, start_ns: int, end_ns: int) -> list[Overlap]:
        """The spans on a thread that ran in a time, by start."""
        starts, ends = self.spans.starts, self.spans.ends
        inner = self.started(thread, start_ns, end_ns)
        outer = [at for at in self.around(self.innermost(thread, start_ns)) if at not in inner]
        lengths: dict[int, int] = {}
        own: dict[int, int] = {}
        for at in (*reversed(outer), *inner):
            length = min(ends[at], end_ns) - max(starts[at], start_ns)
            lengths[at] = own[at] = length
            parent = self.parents[at]
            if parent in own:
                own[parent] -= length
        return [Overlap(at, lengths[at], max(own[at], 0)) for at in lengths]


class HostThread:
    """When one thread of the host was in what."""

    def __init__(self, recording: Recording, thread: int) -> None:
        waits: list[tuple[int, int]] = []
        calls: list[tuple[int, int]] = []
        names = list(recording.names)
        for start_ns, end_ns, name, on in recording.calls.rows():
            if on == thread:
                (waits if is_wait(names[name]) else calls).append((start_ns, end_ns))
        self.waits = Intervals(waits)
        self._calls = Intervals(calls)
        self._ops = Intervals.by_start(_of(recording.ops, thread))
        self._python = Intervals.by_start(_of(recording.frames, thread))

    def share(self, time: Intervals) -> HostShare:
        """Where the thread was in that time; each moment counts once, by the innermost."""
        parts = []
        for inside in (self.waits, self._calls, self._ops, self._python):
            parts.append((time & inside).total_s)
            time -= inside
        wait_s, driver_s, operator_s, python_s = parts
        return HostShare(wait_s, driver_s, operator_s, python_s, time.total_s)


def _of(spans: HostSpans, thread: int) -> Iterable[tuple[int, int]]:
    return ((start_ns, end_ns) for start_ns, end_ns, _, on in spans.rows() if on == thread)


def own_times(index: HostIndex, at: Iterable[int]) -> Counter[int]:
    """Time of each name in these spans, in nanoseconds, without what is inside them."""
    spans, totals = index.spans, Counter[int]()
    for one in at:
        length = spans.ends[one] - spans.starts[one]
        totals[spans.names[one]] += length
        parent = index.parents[one]
        if parent >= 0:
            totals[spans.names[parent]] -= length
    return totals
