"""Which inference each piece of work on a device belongs to, and which operator launched it."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Sequence

from warpspan.sources.profile.host import HostIndex
from warpspan.sources.profile.recording import Recording, Unit

_GRAPH_LAUNCH = re.compile(r"GraphLaunch")


class Assignment:
    """The work on devices, by inference.

    Work belongs to the inference in which its launch lies, on the thread of the launch if one is
    open there. Where the trace has no launch of it, or where a pool of threads launches, it belongs
    to the one that began last.

    Args:
        recording: sorted.
        units: by start.
        ops: the operators.

    Attributes:
        unit: of each piece of work, -1 where it belongs to none.
        launch: index of its launch in `recording.calls`, -1 where the trace has none.
        op: index of the innermost operator around its launch, -1 where there is none.
        by_time: how many have no launch.
        graph_launches: launches of CUDA graphs.
        graphs_without_kernels: of these, those that no work refers to.
    """

    def __init__(self, recording: Recording, units: Sequence[Unit], ops: HostIndex) -> None:
        self._recording, self._units, self._ops = recording, units, ops
        self._by_thread: dict[int, list[int]] = {}
        for at, unit in enumerate(units):
            self._by_thread.setdefault(unit.thread, []).append(at)
        self._starts = {
            thread: [units[at].start_ns for at in held] for thread, held in self._by_thread.items()
        }
        self._all_starts = [unit.start_ns for unit in units]
        work, count = recording.device, len(recording.device)
        self.unit, self.launch = array("q", [-1]) * count, array("q", [-1]) * count
        self.op = array("q", [-1]) * count
        self.by_time = 0
        calls = _Calls(recording)
        ids: dict[int, int] | None = None
        for at in range(count):
            launch = calls.launch(work.correlations[at], work.starts[at])
            op = -1
            if launch >= 0:
                thread, time_ns = recording.calls.threads[launch], recording.calls.starts[launch]
                op = ops.innermost(thread, time_ns)
            elif work.ops[at] >= 0:
                if ids is None:
                    ids = {number: one for one, number in enumerate(recording.ops.ids)}
                op = ids.get(work.ops[at], -1)
            self.launch[at], self.op[at] = launch, op
            self.unit[at] = self._unit_of(at, launch, op)
        self.graph_launches, self.graphs_without_kernels = calls.graphs(self.launch)

    def _unit_of(self, at: int, launch: int, op: int) -> int:
        if len(self._units) == 1 and self._units[0].kind == "trace":
            return 0
        recording = self._recording
        if launch >= 0:
            thread, time_ns = recording.calls.threads[launch], recording.calls.starts[launch]
            if recording.async_launches and thread not in self._by_thread:
                return bisect_right(self._all_starts, time_ns) - 1
            return self.unit_at(thread, time_ns)
        if op >= 0:
            return self.unit_at(recording.ops.threads[op], recording.ops.starts[op])
        unit = bisect_right(self._all_starts, recording.device.starts[at]) - 1
        self.by_time += unit >= 0
        return unit

    def unit_at(self, thread: int, time_ns: int) -> int:
        """The inference that was open on a thread, else the only one on the others; -1 for none."""
        on_thread = self._open_on(thread, time_ns)
        if on_thread >= 0:
            return on_thread
        found = [at for other in self._by_thread if (at := self._open_on(other, time_ns)) >= 0]
        return found[0] if len(found) == 1 else -1

    def _open_on(self, thread: int, time_ns: int) -> int:
        place = bisect_right(self._starts.get(thread, ()), time_ns) - 1
        if place < 0:
            return -1
        at = self._by_thread[thread][place]
        return at if time_ns < self._units[at].end_ns else -1


class _Calls:
    """Calls of the runtime by the correlation that the work has which they launched."""

    def __init__(self, recording: Recording) -> None:
        self._calls = recording.calls
        self._names = list(recording.names)
        self._by_correlation: dict[int, int] = {}
        # Traces of several processes in one file use the same numbers.
        self._again: dict[int, list[int]] = {}
        for at, number in enumerate(recording.calls.ids):
            if number >= 0 and self._by_correlation.setdefault(number, at) != at:
                self._again.setdefault(number, [self._by_correlation[number]]).append(at)

    def launch(self, correlation: int, before_ns: int) -> int:
        """Index of the call, of several the last one that began before the work; -1 for none."""
        several = self._again.get(correlation)
        if several is None:
            return self._by_correlation.get(correlation, -1)
        starts = self._calls.starts
        return max(
            (at for at in several if starts[at] <= before_ns),
            key=starts.__getitem__,
            default=several[0],
        )

    def graphs(self, launched: Sequence[int]) -> tuple[int, int]:
        """How many CUDA graphs were launched, and how many of them without any work."""
        kinds = {number for number, name in enumerate(self._names) if _GRAPH_LAUNCH.search(name)}
        if not kinds:
            return 0, 0
        graphs = {at for at, name in enumerate(self._calls.names) if name in kinds}
        return len(graphs), len(graphs - set(launched))
