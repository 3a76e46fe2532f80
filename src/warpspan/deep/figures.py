"""From the trace of a capture to the figures of each inference in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from warpspan.records import Profile, ProfileTotal
from warpspan.sources.kineto import KinetoReader
from warpspan.sources.profile.recording import KERNEL, Recording, Unit
from warpspan.sources.profile.totals import operator_times
from warpspan.sources.profile.work import WorkReader

TOP = 5
"""Kernels, or operators, that a span names."""

_LONGEST_NAME = 200
_LAUNCH = re.compile(r"Launch\w*Kernel|GraphLaunch")


class Member(NamedTuple):
    """An inference in a capture.

    Args:
        name: of its span.
        start_ns: Unix time of its begin on the host.
        end_ns: Unix time of its end on the host.
        threads: names that its thread may have in a trace, `process/thread`.
        ordinal: index of its device, None for a CPU.
        device_times: Unix time of its begin and end on the device, None where that is not known.
        trace_id: of its span, empty where it is not recorded.
        span_id: likewise.
    """

    name: str
    start_ns: int
    end_ns: int
    threads: tuple[str, ...] = ()
    ordinal: int | None = None
    device_times: tuple[int, int] | None = None
    trace_id: str = ""
    span_id: str = ""


class Figures(NamedTuple):
    """What a trace has of inferences.

    Args:
        profiles: one for each, in their order.
        epoch_ns: Unix time of the trace's zero.
        threads: name of the thread of each in the trace, None where it is not there.
    """

    profiles: list[Profile]
    epoch_ns: int
    threads: list[str | None]


def read_figures(path: Path, members: Sequence[Member]) -> Figures:
    """Read a trace of PyTorch's profiler.

    Args:
        path: the trace.
        members: the inferences in it, by start.
    """
    with path.open("rb") as stream:
        recording = KinetoReader(stream).read()
    return figures_of(recording, members)


def figures_of(recording: Recording, members: Sequence[Member]) -> Figures:
    """The figures of inferences in a recording.

    Work belongs to the inference in which it was launched. Where the launch is not in the trace, it
    belongs to the one between whose events on the device it ran. Figures that rest on work which
    may be missing are absent.
    """
    epoch_ns = recording.epoch_ns
    threads = [
        next((name for name in member.threads if name in recording.threads), None)
        for member in members
    ]
    units = [
        Unit(
            "window",
            member.name,
            None,
            member.start_ns - epoch_ns,
            member.end_ns - epoch_ns,
            # One that is not there gets a number of its own.
            recording.threads[f"inference {number}" if thread is None else thread],
        )
        for number, (member, thread) in enumerate(zip(members, threads, strict=True))
    ]
    reader = WorkReader(recording, units)
    gate = _Gate(recording, reader, units, members)
    work = reader.work()
    tops = _kernels(recording, reader, members)
    profiles = []
    for number, (unit, member) in enumerate(zip(units, members, strict=True)):
        if member.ordinal is None:
            profiles.append(Profile(operators=_operators(recording, reader, unit)))
            continue
        if not len(recording.device) or gate.unsure[number]:
            profiles.append(Profile())
            continue
        main = next((one for one in work[number] if one.device.ordinal == member.ordinal), None)
        whole = main is not None and not gate.lacking[number]
        profiles.append(
            Profile(
                kernel_count=0 if main is None else main.kernel_count,
                busy_s=main.busy_s if main is not None and whole else None,
                idle_s=main.idle_s if main is not None and whole else None,
                kernels=tops[number],
            )
        )
    return Figures(profiles, epoch_ns, threads)


class _Gate:
    """What may be said of each inference.

    Attributes:
        lacking: whether the trace lacks work that it launched, or launches of work that it did:
            then it may look idle and not be.
        unsure: whether work may be its own or another's.
    """

    def __init__(
        self,
        recording: Recording,
        reader: WorkReader,
        units: Sequence[Unit],
        members: Sequence[Member],
    ) -> None:
        assignment, calls, names = reader.assignment, recording.calls, list(recording.names)
        self.lacking, self.unsure = [False] * len(units), [False] * len(units)
        launching = {number for number, name in enumerate(names) if _LAUNCH.search(name)}
        launches = [at for at, name in enumerate(calls.names) if name in launching]
        done = {*assignment.launch}
        for at in launches:
            if at not in done:
                unit = assignment.unit_at(calls.threads[at], calls.starts[at])
                for number in self._candidates(units, unit, calls.starts[at]):
                    self.lacking[number] = True
        work = recording.device
        for at, launch in enumerate(assignment.launch):
            if launch >= 0:
                if assignment.unit[at] < 0:
                    for number in self._candidates(units, -1, calls.starts[launch]):
                        self.unsure[number] = True
                continue
            mid_ns = recording.epoch_ns + (work.starts[at] + work.ends[at]) // 2
            within = [
                number
                for number, member in enumerate(members)
                if member.ordinal == work.devices[at]
                and member.device_times is not None
                and member.device_times[0] <= mid_ns < member.device_times[1]
            ]
            assignment.unit[at] = within[0] if len(within) == 1 else -1
            for number in within:
                self.lacking[number] |= bool(launches)
                self.unsure[number] |= len(within) > 1
        for at, one in enumerate(units):
            for other in units:
                if (
                    other is not one
                    and other.thread == one.thread
                    and one.start_ns <= other.start_ns < one.end_ns
                ):
                    self.unsure[at] = True  # its own work can't be told from that of the inner one

    @staticmethod
    def _candidates(units: Sequence[Unit], unit: int, time_ns: int) -> list[int]:
        if unit >= 0:
            return [unit]
        return [at for at, one in enumerate(units) if one.start_ns <= time_ns < one.end_ns]


def _kernels(
    recording: Recording, reader: WorkReader, members: Sequence[Member]
) -> list[tuple[ProfileTotal, ...]]:
    """The kernels with most time of each inference on its device."""
    times: list[Counter[int]] = [Counter() for _ in members]
    counts: list[Counter[int]] = [Counter() for _ in members]
    work, names = recording.device, list(recording.names)
    for at, number in enumerate(reader.assignment.unit):
        if number >= 0 and work.kinds[at] == KERNEL and work.devices[at] == members[number].ordinal:
            times[number][work.names[at]] += work.ends[at] - work.starts[at]
            counts[number][work.names[at]] += 1
    return [
        tuple(
            ProfileTotal(names[name][:_LONGEST_NAME], counts[number][name], time_ns / 1e9)
            for name, time_ns in times[number].most_common(TOP)
        )
        for number in range(len(members))
    ]


def _operators(recording: Recording, reader: WorkReader, unit: Unit) -> tuple[ProfileTotal, ...]:
    names = list(recording.names)
    times, counts = operator_times(recording, reader.ops, unit)
    return tuple(
        ProfileTotal(names[name][:_LONGEST_NAME], counts[name], time_ns / 1e9)
        for name, time_ns in times.most_common(TOP)
    )
