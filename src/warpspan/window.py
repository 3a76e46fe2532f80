"""The open inference: raw readings at its begin and end, nothing computed in between.

A context variable holds the scope that the caller is in. Three kinds exist: a `Window` (one
inference), a `Step` (a module call inside a window that is not a module call itself) and a
`Shade` (a call that is not recorded, so that nothing inside it is either). `covers` answers the
one question that every module call asks: is it part of a call that is already open?
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Protocol, TypeAlias

from warpspan import guard
from warpspan.probes import clock, inputs
from warpspan.probes.memory import MemoryReading, PeakHolder, requested_bytes
from warpspan.probes.model import Entry
from warpspan.probes.place import Place
from warpspan.records import Inference, Memory, Model, Steps, Timing


class Sink(Protocol):
    """Where spans begin and records end; `emit` implements it."""

    def start(self, name: str, attributes: dict[str, Any], start_ns: int) -> Any:
        """Start a span and make it current; None where instrumentation is suppressed."""

    def leave(self, span: Any) -> None:
        """Make current again what was. Runs on the caller's thread."""

    def finish(self, span: Any, record: Inference) -> None:
        """End the span and record the metrics. Runs on the finisher's thread."""

    def is_recording(self, span: Any) -> bool:
        """Whether the span is kept by a provider."""

    def flush(self, timeout_s: float) -> bool:
        """Have the providers export what they hold; False where time ran out."""


class Shade:
    """A call that is not recorded."""

    __slots__ = ("_token", "covers")
    takes_steps = False

    def __init__(self) -> None:
        self.covers = True
        self._token = current.set(self)

    def fail(self, error: BaseException) -> None:
        """Nothing to remember."""

    def close(self) -> None:
        """Leave the shade."""
        self.covers = False
        _leave(self._token)


class Window:
    """One open inference, opened by `begin` and closed by `close`, both on the caller's thread.

    Args:
        operation: what runs.
        model: its model, a class name, or None where unknown.
        place: where it runs.
        span: what the sink started for it.
        start_ns: Unix time of its begin.
        began_ns: host clock of its begin.
        closed_to: called with the window when it is closed, on the caller's thread.
        seen: the input of a module call.
        takes_steps: module calls inside are its steps; else they are part of it.
        nested: another inference of this context is open, so this one does not count as a
            further one on its device.
        cpu_time: whether the thread's processor time is the inference's.
    """

    __slots__ = (
        "_began_cpu_ns",
        "_began_ns",
        "_closed_to",
        "_concurrency",
        "_cpu_s",
        "_end_event",
        "_ended_ns",
        "_entrance",
        "_error_type",
        "_events",
        "_holder",
        "_memory_end",
        "_memory_start",
        "_model",
        "_oom_requested",
        "_seen",
        "_start_ns",
        "_steps",
        "_thread",
        "_token",
        "covers",
        "open",
        "operation",
        "place",
        "span",
        "takes_steps",
    )

    def __init__(
        self,
        operation: str,
        model: Entry | str | None,
        place: Place,
        span: Any,
        start_ns: int,
        began_ns: int,
        closed_to: Callable[[Window], None],
        *,
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
        self._steps = _StepTally() if takes_steps else None
        self._closed_to = closed_to
        self.open = True
        self._concurrency: int | None = None
        self._cpu_s: float | None = None
        self._events: clock.Events | None = None
        self._end_event: clock.Lease | None = None
        self._holder: PeakHolder | None = None
        self._memory_start: MemoryReading | None = None
        self._memory_end: MemoryReading | None = None
        self._error_type: str | None = None
        self._oom_requested: int | None = None
        self._token: Token[Scope | None] | None = None
        self._entrance = None if nested else place.enter()
        self._thread = threading.get_ident()
        self._began_cpu_ns = clock.thread_ns() if cpu_time else None

    def begin(self) -> None:
        """Take the opening readings, the device's last, and become the current scope."""
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
        self._token = current.set(self)

    def fail(self, error: BaseException) -> None:
        """Remember what left the inference: its class, never its message."""
        if isinstance(error, GeneratorExit):
            return  # a consumer that stops early is no error
        kind = type(error)
        name = kind.__qualname__
        self._error_type = name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
        if isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one
            self._oom_requested = requested_bytes(str(error))

    def close(self) -> None:
        """Take the closing readings, the device's first, and hand the window on. Never raises."""
        if not self.open:
            return
        self.open = self.covers = self.takes_steps = False
        try:
            if self._events is not None:
                self._end_event = self.place.timeline.end()  # type: ignore[union-attr]
        except Exception as error:
            guard.caught("device events", error)
        self._ended_ns = clock.host_ns()
        if self._began_cpu_ns is not None and self._thread == threading.get_ident():
            self._cpu_s = (clock.thread_ns() - self._began_cpu_ns) / 1e9
        try:
            if self._holder is not None:
                self._memory_end = self.place.ledger.close(self._holder)  # type: ignore[union-attr]
        except Exception as error:
            guard.caught("memory", error)
        if self._entrance is not None:
            self._concurrency = self.place.leave(self._entrance, self._ended_ns)
        if self._token is not None:
            _leave(self._token)
        self._closed_to(self)

    def disown(self) -> None:
        """Forget it, and those it is in: in a forked child they are the parent's to end."""
        self.open = self.covers = self.takes_steps = False
        outer = self._token.old_value if self._token is not None else None
        if isinstance(outer, Window):
            outer.disown()

    def step(self, model: Entry, seen: inputs.Seen | None) -> Step:
        """Open a step. The first one tells the model and the input where nobody else did."""
        if self._model is None:
            self._model = model
        if self._seen is None:
            self._seen = seen
        return Step(self._steps, self._began_ns)  # type: ignore[arg-type]

    @property
    def done(self) -> bool:
        """Whether the device has passed the end of the inference. Asks, never waits."""
        return self._end_event is None or self.place.timeline.done(self._end_event)  # type: ignore[union-attr]

    def record(self, *, device_done: bool, rss_bytes: int | None) -> Inference:
        """The finished inference. Runs on the finisher's thread."""
        entrance = self._entrance
        device_s = queue_s = idle_s = None
        if self.place.timeline is None:
            idle_s = entrance.host_idle_s(self._began_ns) if entrance is not None else None
        elif device_done and self._events is not None and self._end_event is not None:
            overlapped = entrance is None or entrance.others > 0
            device_s, queue_s, idle_s = self.place.timeline.times(
                self._events, self._end_event, overlapped=overlapped
            )
            if entrance is None:  # inside another inference there is no gap to speak of
                idle_s = None
        return Inference(
            operation=self.operation,
            start_ns=self._start_ns,
            duration_s=(self._ended_ns - self._began_ns) / 1e9,
            device=self.place.device,
            model=self._model.facts() if isinstance(self._model, Entry) else Model(self._model),
            input=inputs.describe(self._seen),
            timing=Timing(self._cpu_s, device_s, queue_s, idle_s, self._concurrency),
            memory=self._memory(rss_bytes),
            steps=self._steps.steps() if self._steps is not None else None,
            error_type=self._error_type,
        )

    def _memory(self, rss_bytes: int | None) -> Memory | None:
        place, start, end = self.place, self._memory_start, self._memory_end
        memory = Memory(
            oom_requested_bytes=self._oom_requested,
            rss_bytes=rss_bytes if place.timeline is None else None,
        )
        if start is not None and end is not None and self._holder is not None:
            peak = self._holder.peak
            place.allocated_bytes, place.reserved_bytes = end.allocated, end.reserved
            memory = memory._replace(
                allocated_start_bytes=start.allocated,
                allocated_end_bytes=end.allocated,
                peak_bytes=peak,
                peak_increase_bytes=peak - start.allocated,
                reserved_bytes=end.reserved,
                limit_bytes=place.limit_bytes,
                utilization=peak / place.limit_bytes if place.limit_bytes else None,
                allocation_retries=end.retries - start.retries,
            )
        return memory


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
        _leave(self._token)
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


Scope: TypeAlias = Shade | Window | Step
current: ContextVar[Scope | None] = ContextVar("warpspan_scope", default=None)


def _leave(token: Token[Scope | None]) -> None:
    try:
        current.reset(token)
    except ValueError:
        # Closed in another context (a generator resumed elsewhere): where it was opened the
        # variable still names this scope, which says by itself that it covers nothing any more.
        pass
