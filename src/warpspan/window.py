"""The open inference: raw readings at its begin and end, nothing computed in between.

A context variable holds the scope that the caller is in. Four kinds exist: `OUTSIDE` of all, a
`Window` (one inference), a `Step` (a module call inside a window that is not a module call itself)
and a `Shade` (a call that is not recorded, so that nothing inside it is either). `covers` answers
the one question that every module call asks: is it part of a call that is already open?
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Protocol, TypeAlias

from warpspan import guard
from warpspan.probes import capture, clock, garbage, inputs
from warpspan.probes.memory import MemoryReading, PeakHolder, requested_bytes
from warpspan.probes.model import Entry
from warpspan.probes.place import Entrance, Place, host_idle_s
from warpspan.probes.transfers import SEALED, Tally
from warpspan.records import Inference, Memory, Model, Steps, Timing


class Sink(Protocol):
    """Where spans begin and records end; `emit` implements it."""

    def start(self, name: str, attributes: dict[str, Any], start_ns: int) -> Any:
        """Start a span and make it current; None where instrumentation is suppressed.

        The last item of what it gives says whether the span is recorded.
        """

    def leave(self, span: Any) -> None:
        """Make current again what was. Runs on the caller's thread."""

    def request(self, span: Any) -> int:
        """The trace that was current when a span started, or now for None; 0 for none."""

    def finish(self, span: Any, record: Inference) -> None:
        """End the span and record the metrics. Runs on the finisher's thread."""

    def flush(self, timeout_s: float) -> bool:
        """Have the providers export what they hold; False where time ran out."""


class Outside:
    """No call is open."""

    __slots__ = ()
    covers = takes_steps = False
    _token = None


class Shade:
    """A call that is not recorded."""

    __slots__ = ("_token", "covers")
    takes_steps = False

    def __init__(self) -> None:
        self.covers = True
        self._token = current.set(self)

    @property
    def is_current(self) -> bool:
        """Whether it is the innermost scope of the caller."""
        return current.get() is self

    def fail(self, error: BaseException) -> None:
        """Nothing to remember."""

    def close(self) -> None:
        """Leave the shade."""
        self.covers = False
        leave(self)


class Window:
    """One open inference, opened by `begin` and closed by `close`, both on the caller's thread.

    Args:
        place: where it runs.
        span: what the sink started for it.
        start_ns: Unix time of its begin.
        began_ns: host clock of its begin.
        closed_to: called with the window when it is closed, on the caller's thread; leaves it.
        operation: what runs.
        model: its model, a class name, or None where unknown.
        seen: the input of a module call.
        takes_steps: module calls inside are its steps; else they are part of it.
        nested: another inference of this context is open, so this one does not count as a
            further one on its device.
        cpu_time: whether the thread's processor time is the inference's. It is read for recorded
            spans only: two system calls, on which the metrics don't rest.
    """

    # Defaults stand on the class: an inference pays only for what it sets (no __slots__, which
    # would forbid them and save nothing on an object that lives for milliseconds).
    _began_cpu_ns: int | None = None
    _concurrency: int | None = None
    _cpu_s: float | None = None
    _end_event: clock.Lease | None = None
    _entrance: Entrance | None = None
    _error_type: str | None = None
    _events: clock.Events | None = None
    _holder: PeakHolder | None = None
    _memory_end: MemoryReading | None = None
    _memory_start: MemoryReading | None = None
    _oom_requested: int | None = None
    _steps: _StepTally | None = None
    #: What it waited for and copied, or what was copied for it before.
    noted: Tally | None = None
    _thread: int | None = None
    _times: clock.DeviceTimes | None = None
    _token: Token[Scope] | None = None
    open = True

    def __init__(
        self,
        place: Place,
        span: Any,
        start_ns: int,
        began_ns: int,
        closed_to: Callable[[Window], None],
        operation: str,
        model: Entry | str | None,
        seen: inputs.Seen | None = None,
        takes_steps: bool = False,
        nested: bool = False,
        cpu_time: bool = True,
    ) -> None:
        self.operation = operation
        self.place = place
        self.span = span
        self.takes_steps = takes_steps
        self.covers = not takes_steps
        self._model = model
        self._seen = seen
        self._start_ns = start_ns
        self._began_ns = began_ns
        self._closed_to = closed_to
        self._garbage = self._garbage_end = garbage.state
        if takes_steps:
            self._steps = _StepTally()
        if not nested:
            self._entrance = place.enter()
        if cpu_time and span[-1]:
            self._thread = threading.get_ident()
            self._began_cpu_ns = clock.thread_ns()

    def begin(self) -> None:
        """Become the current scope and take the opening readings, the device's last."""
        self._token = current.set(self)
        place = self.place
        if place.ledger is not None:
            try:
                self._holder, self._memory_start = place.ledger.open()
            except Exception as error:
                guard.caught("memory", error)
        if place.timeline is not None:
            try:
                self._events = place.timeline.start()
            except Exception as error:
                guard.caught("device events", error)

    @property
    def is_current(self) -> bool:
        """Whether it is the innermost scope of the caller."""
        return current.get() is self

    def fail(self, error: BaseException) -> None:
        """Remember what left the inference: its class, never its message."""
        if isinstance(error, GeneratorExit):
            return  # a consumer that stops early is no error
        kind = type(error)
        name = kind.__qualname__
        self._error_type = name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
        if isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one
            try:
                self._oom_requested = requested_bytes(str(error))
            except Exception:
                pass  # a class of the host's whose text can't be made tells no size

    def close(self) -> None:
        """Take the closing readings, the device's first, and hand the window on. Never raises."""
        if not self.open:
            return
        self.open = self.covers = self.takes_steps = False
        if self._events is not None:
            try:
                self._end_event = self.place.timeline.end(self._events)  # type: ignore[union-attr]
            except Exception as error:
                guard.caught("device events", error)
        self._ended_ns = clock.host_ns()
        self._garbage_end = garbage.state
        if self._began_cpu_ns is not None and self._thread == threading.get_ident():
            self._cpu_s = (clock.thread_ns() - self._began_cpu_ns) / 1e9
        if self._holder is not None:
            try:
                self._memory_end = self.place.ledger.close(self._holder)  # type: ignore[union-attr]
            except Exception as error:
                guard.caught("memory", error)
        if self._entrance is not None:
            self._concurrency = self.place.leave(self._entrance, self._ended_ns)
        self._closed_to(self)

    def step(self, model: Entry | None, seen: inputs.Seen | None) -> Step:
        """Open a step. The first one tells the model and the input where nobody else did."""
        if self._model is None:
            self._model = model
        if self._seen is None:
            self._seen = seen
        return Step(self._steps, self._began_ns)  # type: ignore[arg-type]

    @property
    def tally(self) -> Tally:
        """What it waited for and copied."""
        # Threads may come at once, and get the same one.
        return self.noted or self.__dict__.setdefault("noted", Tally())

    @property
    def model(self) -> Entry | None:
        """The model, where one was seen."""
        return self._model if isinstance(self._model, Entry) else None

    @property
    def done(self) -> bool:
        """Whether the device has passed the end of the inference. Asks, never waits."""
        try:
            if self.noted is not None and not self.noted.settled(capture.gate.ask):
                return False  # a copy or a call that belongs to it is under way
            if self._end_event is None or self._times is not None:
                return True
            overlapped = self._entrance is None or self._entrance[0] > 0
            self._times = self.place.timeline.times(  # type: ignore[union-attr]
                self._events,  # type: ignore[arg-type]
                self._end_event,
                overlapped=overlapped,
            )
        except Exception as error:  # a device that is lost must not cost the span
            guard.caught("device events", error)
            self._end_event = None
            return True
        return self._times is not None

    @property
    def settled(self) -> bool:
        """Whether what it had of its device is known, or won't be."""
        meter = self.place.meter
        return meter is None or self._end_event is None or meter.settled(self._events)

    def record(self, *, device_done: bool, rss_bytes: int | None) -> Inference:
        """The finished inference. Runs on the finisher's thread."""
        entrance = self._entrance
        tally: Tally = self.__dict__.setdefault("noted", SEALED)
        device_s = queue_s = idle_s = usage = None
        if self.place.is_host:
            if entrance is not None:
                idle_s = host_idle_s(entrance, self._began_ns)
        elif device_done and self._times is not None:
            device_s, queue_s, idle_s = self._times
            if entrance is None:  # inside another inference there is no gap to speak of
                idle_s = None
            if self.place.meter is not None:
                usage = self.place.meter.usage(self._events)
        syncs, transfers = tally.describe(device_s)
        return Inference(
            operation=self.operation,
            start_ns=self._start_ns,
            duration_s=(self._ended_ns - self._began_ns) / 1e9,
            device=self.place.device,
            model=self._model.facts() if isinstance(self._model, Entry) else Model(self._model),
            input=inputs.describe(self._seen),
            timing=Timing(
                self._cpu_s,
                device_s,
                queue_s,
                idle_s,
                self._concurrency,
                *garbage.between(self._garbage, self._garbage_end),
            ),
            memory=self._memory(rss_bytes),
            steps=self._steps.steps() if self._steps is not None else None,
            usage=usage,
            syncs=syncs,
            transfers=transfers,
            error_type=self._error_type,
        )

    def _memory(self, rss_bytes: int | None) -> Memory | None:
        place, start, end = self.place, self._memory_start, self._memory_end
        if start is None or end is None or self._holder is None:
            rss_bytes = rss_bytes if place.is_host else None
            if self._oom_requested is None and rss_bytes is None:
                return None
            return Memory(oom_requested_bytes=self._oom_requested, rss_bytes=rss_bytes)
        peak = self._holder.peak
        place.allocated_bytes, place.reserved_bytes = end.allocated, end.reserved
        return Memory(
            allocated_start_bytes=start.allocated,
            allocated_end_bytes=end.allocated,
            peak_bytes=peak,
            peak_increase_bytes=peak - start.allocated,
            reserved_bytes=end.reserved,
            limit_bytes=place.limit_bytes,
            utilization=peak / place.limit_bytes if place.limit_bytes else None,
            allocation_retries=end.retries - start.retries,
            oom_requested_bytes=self._oom_requested,
        )


class Step:
    """A module call inside a window that takes steps."""

    __slots__ = ("_began_ns", "_tally", "_token", "_window_began_ns", "covers")
    takes_steps = False

    def __init__(self, tally: _StepTally, window_began_ns: int) -> None:
        self.covers = True
        self._tally = tally
        self._window_began_ns = window_began_ns
        self._token = current.set(self)
        self._began_ns = clock.host_ns()

    def fail(self, error: BaseException) -> None:
        """The window hears of it when it leaves the window too."""

    def close(self) -> None:
        """End the step."""
        ended_ns = clock.host_ns()
        self.covers = False
        leave(self)
        self._tally.add(ended_ns - self._began_ns, ended_ns - self._window_began_ns)


class _StepTally:
    """The steps of one window. Locked, since a window's work may be spread over threads."""

    __slots__ = ("_first_ns", "_lock", "_spent_ns", "_total")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = 0
        self._spent_ns = 0
        self._first_ns: int | None = None

    def add(self, spent_ns: int, since_begin_ns: int) -> None:
        with self._lock:
            self._total += 1
            self._spent_ns += spent_ns
            if self._first_ns is None:
                self._first_ns = since_begin_ns

    def steps(self) -> Steps | None:
        if self._first_ns is None:
            return None
        return Steps(self._total, self._first_ns / 1e9, self._spent_ns / 1e9)


Scope: TypeAlias = Outside | Shade | Window | Step
OUTSIDE = Outside()
current: ContextVar[Scope] = ContextVar("warpspan_scope", default=OUTSIDE)


def is_open(scope: Scope) -> bool:
    """Whether it has not been closed."""
    return scope.covers or scope.takes_steps


def leave(scope: Scope) -> bool:
    """Make current what was before; False where that is not this context's to do.

    A generator is closed where its consumer is, out of turn or in another context, and a task
    that was created inside holds a copy. A scope that stays behind covers nothing any more.
    """
    if scope._token is None or current.get() is not scope:
        return False
    try:
        current.reset(scope._token)
    except (RuntimeError, ValueError):  # used up, or made in the context that this is a copy of
        return False
    return True


def disown(scope: Any, closed_to: Callable[[Window], None]) -> None:
    """Forget it and those that it is in: in a forked child they are the parent's to end.

    Args:
        scope: the innermost one.
        closed_to: called with each window instead when the child closes it, too.
    """
    while isinstance(scope, (Shade, Step, Window)):
        scope.covers = False
        if isinstance(scope, Window):
            scope.takes_steps = False
            scope._closed_to = closed_to
            scope._events = scope._holder = None  # the child must not touch the device
        scope = scope._token.old_value if scope._token is not None else None
