"""What inferences did on devices: busy and idle time, kernels, copies, and the host meanwhile."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence

from warpspan.records import Device
from warpspan.records.intervals import Intervals
from warpspan.records.kernels import (
    TOP,
    DeviceTimeline,
    DeviceWork,
    HostShare,
    HostTime,
    IdleGap,
)
from warpspan.sources.profile.assign import Assignment
from warpspan.sources.profile.host import HostIndex, HostThread, Overlap
from warpspan.sources.profile.recording import COPY, KERNEL, Recording, Unit
from warpspan.sources.profile.roofline import roofline
from warpspan.sources.profile.totals import copy_totals, kernel_totals, uses_tensor_cores

_SHORTEST_GAP_NS = 2_000
"""In a shorter gap nobody looks for functions."""


_LOST_GRAPHS = 0.1
"""Of more of them without kernels the busy time is not known; the last ones are often cut off."""


class DeviceLine:
    """One device: its work by start, and when it was busy."""

    def __init__(self, recording: Recording, number: int) -> None:
        device = recording.device
        self.number = number
        self.at = [at for at, one in enumerate(device.devices) if one == number]
        self.at.sort(key=device.starts.__getitem__)
        self.computing, self.copying = (
            Intervals.by_start(
                (device.starts[at], device.ends[at])
                for at in self.at
                if (device.kinds[at] == COPY) is is_copy
            )
            for is_copy in (False, True)
        )
        self.busy = self.computing | self.copying
        self.alone = self.copying - self.computing


class WorkReader:
    """Makes records of the work of a recording.

    Args:
        recording: sorted.
        units: by start.
    """

    def __init__(self, recording: Recording, units: Sequence[Unit]) -> None:
        self._recording, self._units = recording, units
        self.ops, self.frames = HostIndex(recording.ops), HostIndex(recording.frames)
        self.assignment = Assignment(recording, units, self.ops)
        self._names = list(recording.names)
        self._threads: dict[int, HostThread] = {}
        self.lines = [
            DeviceLine(recording, number) for number in sorted({*recording.device.devices})
        ]
        lost, launched = self.assignment.graphs_without_kernels, self.assignment.graph_launches
        self.complete = lost <= _LOST_GRAPHS * launched
        self._tensor = {
            number: uses_tensor_cores(self._names[number]) for number in {*recording.device.names}
        }

    def device(self, line: DeviceLine) -> Device:
        """The device of a line."""
        number = line.number if line.number >= 0 else None
        return Device(self._recording.device_type or "cuda", number)

    def name(self, number: int) -> str | None:
        """The model of a device, by its number, or because all of them are the same."""
        labels = self._recording.device_labels
        every = {*labels.values()}
        return labels.get(number) or (every.pop() if len(every) == 1 else None) or None

    def work(self) -> list[list[DeviceWork]]:
        """For each unit its work on each device, the one with most of it first."""
        found: list[list[DeviceWork]] = [[] for _ in self._units]
        for line in self.lines:
            held: dict[int, list[int]] = {}
            for at in line.at:
                held.setdefault(self.assignment.unit[at], []).append(at)
            for number, work in held.items():
                if number >= 0:
                    found[number].append(self._one(line, self._units[number], work))
        for devices in found:
            devices.sort(key=lambda work: -work.own_busy_s)
        return found

    def _one(self, line: DeviceLine, unit: Unit, work: list[int]) -> DeviceWork:
        device, calls = self._recording.device, self._recording.calls
        start_ns, end_ns = device.starts[work[0]], max(device.ends[at] for at in work)
        busy = line.busy.within(start_ns, end_ns)
        idle = busy.gaps()
        kernels = [at for at in work if device.kinds[at] == KERNEL]
        times = [device.ends[at] - device.starts[at] for at in kernels]
        kernel_ns = sum(times)
        launches = {launch for at in work if (launch := self.assignment.launch[at]) >= 0}
        tensor_ns = sum(
            time for at, time in zip(kernels, times, strict=True) if self._tensor[device.names[at]]
        )
        occupied = [
            (device.occupancies[at], time)
            for at, time in zip(kernels, times, strict=True)
            if device.occupancies[at] >= 0
        ]
        occupied_ns = sum(time for _, time in occupied)
        complete = self.complete
        return DeviceWork(
            device=self.device(line),
            start_ns=start_ns,
            end_ns=end_ns,
            busy_s=busy.total_s if complete else None,
            copies_alone_s=line.alone.within(start_ns, end_ns).total_s if complete else None,
            idle_s=idle.total_s if complete else None,
            own_busy_s=Intervals((device.starts[at], device.ends[at]) for at in work).total_s,
            kernel_count=len(kernels),
            kernel_time_s=kernel_ns / 1e9,
            launch_count=len(launches),
            graph_launch_count=sum(
                "GraphLaunch" in self._names[calls.names[launch]] for launch in launches
            ),
            kernels=kernel_totals(self._recording, self.assignment, kernels),
            copies=copy_totals(self._recording, work),
            tensor_core_share=tensor_ns / kernel_ns if kernel_ns else None,
            occupancy=sum(part * time for part, time in occupied) / occupied_ns / 100
            if occupied_ns
            else None,
            host=self._share(unit.thread, idle) if complete else None,
            functions=self._own_functions(unit.thread, idle) if complete else (),
            gaps=self._longest(unit.thread, idle, unit, unit) if complete else (),
            gap_count=len(idle) if complete else None,
            roofline=roofline(
                self._recording, self.assignment, self.ops, kernels, self.name(line.number)
            ),
        )

    def timeline(
        self, line: DeviceLine, process: str, windows: Sequence[DeviceWork]
    ) -> DeviceTimeline:
        """A device over the whole trace, and its idle gaps outside of inferences."""
        device = self._recording.device
        start_ns, end_ns = line.busy.start_ns or 0, line.busy.end_ns or 0
        inside = Intervals((work.start_ns, work.end_ns) for work in windows)
        idle = Intervals([(start_ns, end_ns)]) - line.busy - inside
        return DeviceTimeline(
            device=self.device(line),
            name=self.name(line.number),
            process=process,
            computing=line.computing,
            copying=line.copying,
            complete=self.complete,
            kernels=kernel_totals(self._recording, self.assignment, line.at),
            kernel_time_s=sum(
                device.ends[at] - device.starts[at] for at in line.at if device.kinds[at] == KERNEL
            )
            / 1e9,
            copies=copy_totals(self._recording, line.at),
            between=self._between(idle) if self.complete else (),
            between_s=idle.total_s if self.complete else None,
            between_host=self._share(self._main_thread(), idle) if self.complete else None,
            between_functions=self._functions_between(idle) if self.complete else (),
        )

    def _main_thread(self) -> int:
        """The thread with most inferences."""
        counts = Counter(unit.thread for unit in self._units)
        return counts.most_common(1)[0][0] if counts else -1

    def thread(self, number: int) -> HostThread:
        """A thread of the host, read once."""
        if number not in self._threads:
            self._threads[number] = HostThread(self._recording, number)
        return self._threads[number]

    def _share(self, thread: int, idle: Intervals) -> HostShare | None:
        has_host = len(self._recording.calls) or len(self._recording.ops)
        return self.thread(thread).share(idle) if has_host and thread >= 0 else None

    def _own_functions(self, thread: int, idle: Intervals) -> tuple[HostTime, ...]:
        times = Counter[int]()
        for start_ns, end_ns in idle:
            if end_ns - start_ns >= _SHORTEST_GAP_NS:
                for one in self.frames.during(thread, start_ns, end_ns):
                    times[self.frames.spans.names[one.at]] += one.own_ns
        return self._named(times)

    def _longest(
        self, thread: int, idle: Iterable[tuple[int, int]], before: Unit | None, after: Unit | None
    ) -> tuple[IdleGap, ...]:
        longest = sorted(idle, key=lambda gap: gap[0] - gap[1])[:TOP]
        return tuple(self._gap(thread, *gap, before, after) for gap in longest)

    def _gap(
        self, thread: int, start_ns: int, end_ns: int, before: Unit | None, after: Unit | None
    ) -> IdleGap:
        waits = self.thread(thread).waits.within(start_ns, end_ns)
        half_ns = (end_ns - start_ns) / 2
        functions = [
            HostTime(self._names[self.frames.spans.names[one.at]], one.overlap_ns / 1e9)
            for one in self._inner(thread, start_ns, end_ns, before, after)
            if one.overlap_ns >= half_ns
        ]
        return IdleGap(start_ns, end_ns, waits.total_s, tuple(functions))

    def _inner(
        self, thread: int, start_ns: int, end_ns: int, before: Unit | None, after: Unit | None
    ) -> list[Overlap]:
        """The Python functions in a gap, without those around the inferences beside it."""
        starts, ends = self.frames.spans.starts, self.frames.spans.ends
        return [
            one
            for one in self.frames.during(thread, start_ns, end_ns)
            if not (before and starts[one.at] <= before.start_ns and ends[one.at] >= before.end_ns)
            and not (after and starts[one.at] <= after.start_ns and ends[one.at] >= after.end_ns)
        ]

    def _neighbours(self, start_ns: int) -> tuple[Unit | None, Unit | None]:
        """The inferences that began last before a gap and first after it, by the host's clock."""
        at = bisect_right(self._units, start_ns, key=lambda unit: unit.start_ns)
        before = self._units[at - 1] if at else None
        return before, self._units[at] if at < len(self._units) else None

    def _between(self, idle: Intervals) -> tuple[IdleGap, ...]:
        longest = sorted(idle, key=lambda gap: gap[0] - gap[1])[:TOP]
        found = []
        for start_ns, end_ns in longest:
            before, after = self._neighbours(start_ns)
            thread = (after or before or Unit("", "", None, 0, 0, -1)).thread
            found.append(self._gap(thread, start_ns, end_ns, before, after))
        return tuple(found)

    def _functions_between(self, idle: Intervals) -> tuple[HostTime, ...]:
        times = Counter[int]()
        names = self.frames.spans.names
        for start_ns, end_ns in idle:
            if end_ns - start_ns < _SHORTEST_GAP_NS:
                continue
            before, after = self._neighbours(start_ns)
            if (beside := after or before) is None:
                continue
            seen: dict[int, int] = {}
            for one in self._inner(beside.thread, start_ns, end_ns, before, after):
                # A function that calls itself counts once.
                if not any(names[up] == names[one.at] for up in self._callers(one.at)):
                    seen[names[one.at]] = seen.get(names[one.at], 0) + one.overlap_ns
            times.update(seen)
        return self._named(times)

    def _callers(self, at: int) -> Iterable[int]:
        return self.frames.around(self.frames.parents[at])

    def _named(self, times: Counter[int]) -> tuple[HostTime, ...]:
        return tuple(
            HostTime(self._names[number], time_ns / 1e9)
            for number, time_ns in times.most_common(TOP)
            if time_ns > 0
        )
