"""Time: the host's clocks, and the device's through CUDA events that nobody waits for."""

from __future__ import annotations

import time
import weakref
from collections import deque
from typing import Any, NamedTuple

import torch

from warpspan.guard import let_through
from warpspan.probes.capture import gate

# The host's clocks stand here as names so that a scripted device can set the first two.
host_ns = time.perf_counter_ns
wall_ns = time.time_ns
thread_ns = time.thread_time_ns

# The clocks of host and device drift apart by about 10 µs a second, so the anchor that ties them
# together is renewed about once a second: one stream query a second on the caller's thread.
_ANCHOR_AGE_NS = 1_000_000_000


def yield_gil() -> None:
    """Let a thread run that waits for the GIL."""
    time.sleep(0)


def capturing(ordinal: int) -> bool:
    """Whether a device's current stream is in a capture, where events can't be read later."""
    if torch._C._cuda_getDevice() != ordinal:  # torch asks for the current device only
        with torch.cuda.device(ordinal):
            return bool(torch.cuda.is_current_stream_capturing())
    return bool(torch.cuda.is_current_stream_capturing())


def take_event(pool: deque[Any]) -> Any:
    """An event of a pool, a new one where it is empty."""
    try:
        return pool.pop()
    except IndexError as empty:
        let_through(empty)
        return torch.cuda.Event(enable_timing=True)


class Lease:
    """A CUDA event on loan: when the last reference to it is gone it is back in the pool."""

    __slots__ = ("_pool", "event")

    def __init__(self, event: Any, pool: deque[Any]) -> None:
        self.event = event
        self._pool = pool

    def __del__(self) -> None:
        try:
            self._pool.append(self.event)
        except AttributeError:
            pass  # interrupted while it was made


class Events:
    """What is known of an inference on the device, from its begin on.

    Args:
        start: event before its first work.
        enqueued_ns: host time at which `start` was enqueued.
        found_idle: the stream had no work left at that time, so `start` ran as it arrived.
        previous_end: end event of the inference that ended last before, or None.
    """

    # On the class, so that an inference pays for these only when they are set.
    #: Event after its last work; None while it is open.
    end: Lease | None = None
    #: Kept here by the meter of the device.
    account: Any = None

    def __init__(
        self, start: Lease, enqueued_ns: int, found_idle: bool, previous_end: Lease | None
    ) -> None:
        self.start = start
        self.enqueued_ns = enqueued_ns
        self.found_idle = found_idle
        self.previous_end = previous_end


class DeviceTimes(NamedTuple):
    """Times of one inference by the device's clock, in seconds."""

    elapsed_s: float
    queue_s: float | None
    idle_s: float | None


class DeviceTimeline:
    """The events of one CUDA device: a pool of them, and what they tell.

    `start` and `end` run on the caller's thread, `done` and `times` on the finisher's. Nothing
    here waits for the device.
    """

    def __init__(self, ordinal: int, pool_size: int) -> None:
        self._ordinal = ordinal
        self._pool: deque[Any] = deque(maxlen=pool_size)
        self._latest_end: Lease | None = None
        self._anchor: Events | None = None
        self._anchor_due_ns = 0
        #: Where a meter wants to know of every inference that begins, or None.
        self.begun: deque[weakref.ref[Events]] | None = None

    @property
    def capturing(self) -> bool:
        """Whether the device's current stream is in a capture, where events can't be read later."""
        return capturing(self._ordinal)

    def start(self) -> Events:
        """Record the start event. Not to be called in a graph capture."""
        stream = torch.cuda.current_stream(self._ordinal)
        start = self._lease()
        found_idle = False
        now = host_ns()
        if now >= self._anchor_due_ns:
            found_idle = bool(gate.ask(stream.query, wait=False))
            now = host_ns()
            if found_idle:
                self._anchor_due_ns = now + _ANCHOR_AGE_NS
        start.event.record(stream)
        events = Events(start, now, found_idle, self._latest_end)
        if self.begun is not None:
            self.begun.append(weakref.ref(events))
        return events

    def end(self, events: Events) -> Lease | None:
        """Record the end event; None inside a graph capture."""
        if self.capturing:
            return None
        end = self._lease()
        end.event.record(torch.cuda.current_stream(self._ordinal))
        self._latest_end = events.end = end
        return end

    def mark(self) -> tuple[Any, Any] | None:
        """The current stream, and an event recorded on it now; None inside a graph capture."""
        if self.capturing:
            return None
        stream = torch.cuda.current_stream(self._ordinal)
        return stream, self.mark_on(stream)

    def mark_on(self, stream: Any) -> Any:
        """An event recorded on a stream now. To be given back by `take_back`."""
        event = take_event(self._pool)
        event.record(stream)
        return event

    def take_back(self, events: list[Any]) -> None:
        """Events of `mark` that nobody will ask any more."""
        self._pool.extend(events)

    def _lease(self) -> Lease:
        return Lease(take_event(self._pool), self._pool)

    def times(self, events: Events, end: Lease, *, overlapped: bool) -> DeviceTimes | None:
        """The times of an inference; None where the device has not passed its end or can't be asked.

        All is asked at once: a capture may begin between two questions, and reading a time is one.

        Args:
            events: what `start` gave.
            end: what `end` gave.
            overlapped: another inference was open on the device when this one began.
        """
        return gate.ask(lambda: self._times(events, end, overlapped=overlapped))

    def _times(self, events: Events, end: Lease, *, overlapped: bool) -> DeviceTimes | None:
        if not end.event.query():
            return None
        start = events.start.event
        idle_s = None
        if events.previous_end is not None:
            idle_s = 0.0
            # On another stream it may still be running, and then there was no gap.
            if not overlapped and events.previous_end.event.query():
                gap_s = events.previous_end.event.elapsed_time(start) / 1e3
                idle_s = max(0.0, gap_s)
        started_ns = self.started_ns(events)
        queue_s = None if started_ns is None else max(0, started_ns - events.enqueued_ns) / 1e9
        return DeviceTimes(start.elapsed_time(end.event) / 1e3, queue_s, idle_s)

    def started_ns(self, events: Events) -> int | None:
        """Host time at which the device passed a start event; None until the clocks are tied."""
        anchor = self._anchor
        if events.found_idle and (anchor is None or events.enqueued_ns > anchor.enqueued_ns):
            anchor = self._anchor = events
        if anchor is None:
            return None
        since_ms: float = anchor.start.event.elapsed_time(events.start.event)
        return anchor.enqueued_ns + round(since_ms * 1e6)
