"""Timelines of devices from profiler recordings, where every kernel is known."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from warpspan.advisor.ledger import Idle
from warpspan.advisor.timeline import Timeline, Window, split
from warpspan.records.intervals import Intervals
from warpspan.records.kernels import DeviceTimeline, IdleGap, Trace

_SLACK_NS = 10_000
"""How far the clocks of host and device may be apart, and how long a wait takes to return."""

_BLOCKED = re.compile(
    r"block_until_ready|try_to_block|BlockHostUntilReady|\bsynchronize\b|\bsleep\b|\bacquire\b"
    r"|\bselect\b|\bpoll\b|\brecv\w*\b|\baccept\b|queue\.py\(\d+\): get|threading\.py\(\d+\): wait"
)
"""Functions in which a thread does nothing but wait for something else."""


def timelines(trace: Trace) -> list[Timeline]:
    """One for each device of a recording."""
    return [_timeline(trace, line) for line in trace.devices]


def is_blocked(gap: IdleGap) -> bool:
    """Whether the host spent at least half of a gap in waiting for something else."""
    return any(
        _BLOCKED.search(function.name) and 2 * function.time_s >= gap.duration_s
        for function in gap.functions
    )


def _timeline(trace: Trace, line: DeviceTimeline) -> Timeline:
    busy = line.busy
    start_ns, end_ns = busy.start_ns or 0, busy.end_ns or 0
    windows = sorted(_windows(trace, line), key=lambda window: window[1:4])
    made = Timeline(
        device=line.device,
        process=line.process,
        start_ns=start_ns,
        end_ns=end_ns,
        windows=tuple(windows),
        busy=None,
        copying=None,
        idle={},
        kernels=line.complete,
        functions=trace.coverage.python,
        exaggerated=trace.coverage.python,
    )
    if not line.complete:
        return made
    inside = Intervals((window.start_ns, window.end_ns) for window in windows)
    reasons = _reasons(trace, line, windows, Intervals([(start_ns, end_ns)]) - busy, inside)
    return made._replace(
        busy=busy,
        copying=line.copying - line.computing,
        idle=split(start_ns, end_ns, busy, reasons),
    )


def _windows(trace: Trace, line: DeviceTimeline) -> Iterator[Window]:
    for one in trace.inferences:
        start_ns = one.inference.start_ns - trace.epoch_ns
        end_ns = one.inference.end_ns - trace.epoch_ns
        for work in one.work:
            if work.device == line.device:
                opened = (start_ns, max(end_ns, work.end_ns))
                yield Window(one.inference, work.start_ns, work.end_ns, opened, one, work)


def _reasons(
    trace: Trace,
    line: DeviceTimeline,
    windows: Sequence[Window],
    idle: Intervals,
    inside: Intervals,
) -> dict[Idle, Intervals | None]:
    """When each reason held; without inferences none is known."""
    if not windows:
        return {}
    steps = _between_steps(windows)
    has_steps = any(len(window.traced.steps) for window in windows if window.traced)
    between = Intervals([(inside.start_ns or 0, inside.end_ns or 0)]) - inside
    called = Intervals(window.open_ns for window in windows)
    starved = idle & between
    request_wait = None
    if trace.coverage.python:
        request_wait = starved - called - trace.waits - _blocked(line)
    drained = Intervals(_drained(idle & (inside | called), trace.waits))
    return {
        Idle.BETWEEN_STEPS: steps if has_steps else None,
        Idle.SYNC: drained | (trace.waits & (inside | between)),
        Idle.LAUNCH: inside | (between & called),
        Idle.REQUEST_WAIT: request_wait,
        Idle.NO_DEMAND: None,
    }


def _between_steps(windows: Sequence[Window]) -> Intervals:
    between = Intervals()
    for window in windows:
        if window.traced is not None:
            between |= window.traced.steps.gaps().within(window.start_ns, window.end_ns)
    return between


def _drained(idle: Intervals, waits: Intervals) -> Iterator[tuple[int, int]]:
    """Gaps that begin while the host waits for the device: it launches the next work only then."""
    held = list(waits)
    starts = [start_ns for start_ns, _ in held]
    for start_ns, end_ns in idle:
        at = bisect_right(starts, start_ns) - 1
        if at >= 0 and held[at][1] >= start_ns - _SLACK_NS and held[at][0] < start_ns:
            yield start_ns, end_ns


def _blocked(line: DeviceTimeline) -> Intervals:
    """Gaps between inferences in which the host waits for something else.

    Only the longest gaps have functions. If most of their time is blocked, all of the others are
    taken to be, too: too little is said rather than too much.
    """
    blocked = [gap for gap in line.between if is_blocked(gap)]
    blocked_s = sum(gap.duration_s for gap in blocked)
    known_s = sum(gap.duration_s for gap in line.between)
    if 2 * blocked_s <= known_s:
        return Intervals((gap.start_ns, gap.end_ns) for gap in blocked)
    working = Intervals((gap.start_ns, gap.end_ns) for gap in line.between if not is_blocked(gap))
    busy = line.busy
    return Intervals([(busy.start_ns or 0, busy.end_ns or 0)]) - working
