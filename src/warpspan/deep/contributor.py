"""The group of figures that a capture adds to a record."""

from __future__ import annotations

from collections.abc import Hashable

from warpspan.deep.captures import Captures
from warpspan.deep.schedule import Schedule, Untraced
from warpspan.finish.draft import Contributor, Draft
from warpspan.probes import clock
from warpspan.records import Profile
from warpspan.runtime.window import Window

RELIABLE_SLOWDOWN = 1.2
"""Beyond this the profiler itself made a good part of the gaps."""


class CaptureFigures(Contributor):
    """What a profiler saw, for the inferences in a capture; for all others, whether one is due.

    Without a schedule, the times of inferences that are not profiled are kept from the first
    capture on.

    Args:
        captures: makes them.
        schedule: when one begins by itself, None for never.
    """

    name = "capture"

    def __init__(self, captures: Captures, schedule: Schedule | None) -> None:
        self._captures, self._schedule = captures, schedule
        self._untraced = Untraced()

    def settled(self, window: Window) -> bool:
        """Whether it is in no capture that is still to be read."""
        return self._captures.current is None or not self._captures.holds(window)

    def contribute(self, window: Window, draft: Draft) -> None:
        """Add what the profiler saw, and how much it slowed the inference down."""
        captures, schedule = self._captures, self._schedule
        if captures.latest is None and schedule is None:
            return
        device_s = draft.timing.device_time_s
        kind: Hashable = (draft.operation, draft.model.name, draft.device, draft.input)
        time_s = draft.duration_s if device_s is None else device_s
        if window.profile is not None:
            draft.profile = self._with_slowdown(window.profile, kind, time_s)
        elif not captures.was_traced(window) and draft.error_type is None:
            slow = self._untraced.is_slow(kind, time_s) if schedule is not None else False
            self._untraced.add(kind, time_s)
            if schedule is not None and schedule.due(clock.host_ns(), slow=slow):
                captures.request(schedule.count)

    def _with_slowdown(self, profile: Profile, kind: Hashable, time_s: float) -> Profile:
        median_s = self._untraced.median_s(kind)
        if not median_s:
            return profile
        slowdown = time_s / median_s
        reliable = None if profile.idle_s is None else slowdown <= RELIABLE_SLOWDOWN
        return profile._replace(slowdown=slowdown, idle_reliable=reliable)
