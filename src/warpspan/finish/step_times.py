"""The steps of an inference: their times by the device's clock or the host's, and their figures."""

from __future__ import annotations

from functools import partial
from typing import Any

from warpspan import guard
from warpspan.finish.draft import Contributor, Draft
from warpspan.finish.step_figures import StepTimes, figures
from warpspan.probes import capture, clock
from warpspan.records import StepClock, Steps
from warpspan.runtime.steps import StepTimeline
from warpspan.runtime.window import Window

# Times that the finisher asks the driver for before it lets go of the GIL.
_SLICE = 128


class StepFigures(Contributor):
    """Counts, times and percentiles of the steps of an inference that has any.

    Args:
        details: also keep each step.
    """

    name = "steps"

    def __init__(self, *, details: bool) -> None:
        self._details = details

    def contribute(self, window: Window, draft: Draft) -> None:
        """Add the steps' total, and their figures by phase."""
        timeline = window.steps
        if timeline is None:  # a module call has none
            return
        draft.steps = count(timeline)
        start = cycles = None
        device_s, meter = draft.timing.device_time_s, window.runtime_device.meter
        if device_s is not None and window.events is not None:
            start = window.events.start.event
            if meter is not None:
                cycles = partial(meter.during, window.events)
        times = step_times(timeline, start, draft.timing.queue_time_s)
        draft.loop = figures(
            times,
            timeline.notes,
            total_s=device_s if times.source == StepClock.DEVICE else draft.duration_s,
            details=self._details,
            cycles=cycles,
        )


def count(timeline: StepTimeline) -> Steps | None:
    """How many steps there were, and the host time in them; None where there was none."""
    _, begins_ns, ends_ns = _host_times(timeline)
    if not ends_ns:
        return None
    spent_ns = sum(ends_ns) - sum(begins_ns) + timeline.over_ns
    first_ns = ends_ns[0] - timeline.began_ns
    return Steps(len(ends_ns) + timeline.over, first_ns / 1e9, spent_ns / 1e9)


def step_times(timeline: StepTimeline, start: Any, queue_s: float | None) -> StepTimes:
    """When each step ran, by the device's clock where all of it is known, else the host's.

    Args:
        timeline: the steps. Its events go back to the pool.
        start: the window's start event once its device is done, else None.
        queue_s: how long that event waited on the device, or None where unknown.
    """
    phases, begins_ns, ends_ns = _host_times(timeline)
    over_decode_s = 0.0
    if timeline.notes.over_decode_end_ns is not None:
        over_decode_s = (timeline.notes.over_decode_end_ns - ends_ns[-1]) / 1e9
    on_device, timeline.on_device = timeline.on_device, []
    if start is not None and on_device:
        events = [
            event for pair in zip(on_device[3::5], on_device[4::5], strict=True) for event in pair
        ]
        try:
            since_s = [] if None in events else _since_s(start, events)
            timeline.device_timeline.take_back([one for one in events if one is not None])  # type: ignore[union-attr]
        except Exception as error:  # a step on a stream that the window's end did not wait for
            guard.caught("device events", error)
            since_s = []
        if since_s:
            return StepTimes(
                timeline.names,
                phases,
                since_s[::2],
                since_s[1::2],
                StepClock.DEVICE,
                queue_s,
                over_decode_s,
            )
    began_ns = timeline.began_ns
    return StepTimes(
        timeline.names,
        phases,
        [(at - began_ns) / 1e9 for at in begins_ns],
        [(at - began_ns) / 1e9 for at in ends_ns],
        StepClock.HOST,
        0.0,
        over_decode_s,
    )


def _host_times(timeline: StepTimeline) -> tuple[list[int], list[int], list[int]]:
    times_ns, on_device = timeline.times_ns, timeline.on_device
    if on_device:
        return on_device[::5], on_device[1::5], on_device[2::5]
    return list(times_ns[::3]), list(times_ns[1::3]), list(times_ns[2::3])


def _since_s(start: Any, events: list[Any]) -> list[float]:
    """Seconds from an event to others; none where a graph capture is open meanwhile."""
    since_s: list[float] = []
    for first in range(0, len(events), _SLICE):
        part = events[first : first + _SLICE]
        if not capture.gate.ask(lambda part=part: _ask(start, part, since_s)):  # type: ignore[misc]
            return []
        clock.yield_gil()
    return since_s


def _ask(start: Any, events: list[Any], since_s: list[float]) -> bool:
    since_s += [start.elapsed_time(event) / 1e3 for event in events]
    return True
