"""The open inference: raw readings at its begin and its end, nothing computed in between.

The caller's thread writes it; once it is closed, the finisher reads it (`finish/`).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextvars import Token
from typing import Any, Protocol

from warpspan import guard
from warpspan.probes import clock, garbage
from warpspan.probes.inputs import Seen
from warpspan.probes.kv_observer import CacheObserver
from warpspan.probes.memory import MemoryReading, PeakHolder, requested_bytes
from warpspan.probes.model import ModelInfo
from warpspan.probes.runtime_device import ConcurrencyTicket, RuntimeDevice
from warpspan.probes.transfers import SEALED, SyncCopyCounters
from warpspan.records import Profile
from warpspan.runtime.scopes import Skipped, current
from warpspan.runtime.steps import Call, LoopScope, MarkedStep, StepScope, StepTimeline
from warpspan.runtime.user_hooks import Returned


class SpanSource(Protocol):
    """Where the spans of inferences begin, on the caller's thread; `emit` implements it."""

    #: Stands for a span that is not recorded.
    unrecorded: Any

    def start(self, name: str, attributes: dict[str, Any], start_ns: int) -> Any:
        """Start a span that `enter` makes current; None where instrumentation is suppressed.

        The first item of the result is the span as users know it, the last one says whether it is
        recorded.
        """

    def enter(self, span: Any) -> None:
        """Make it current."""

    def leave(self, span: Any) -> None:
        """Make current again what was current before."""

    def request(self, span: Any) -> int:
        """The trace that was current when a span started, or is now for None; 0 for none."""


class ClosedWindows(Protocol):
    """Where windows go when they are closed; the finisher implements it."""

    #: Inferences that were not recorded, or not whole, by reason.
    dropped: Counter[str]

    @property
    def full(self) -> bool:
        """Whether an inference that began now would have to be dropped."""

    def push(self, window: Window) -> None:
        """Take a closed window. Runs on the caller's thread, waits for nothing, never raises."""


class Window:
    """One open inference, opened by `begin` and closed by `close`, both on the caller's thread.

    An exception of a signal handler may come at any instruction. `close` may be called again then:
    it finishes what it had begun.

    Args:
        runtime_device: where it runs.
        span: what was started for it.
        start_ns: Unix time of its begin.
        began_ns: host clock of its begin.
        on_close: called with the window when it is closed, on the caller's thread; leaves it.
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
    began_cpu_ns: int | None = None
    #: The KV caches that were seen in it.
    cache_observer: CacheObserver | None = None
    #: Who is told of the module call's result: of its KV cache, where it may have one.
    cache_call: Returned | None = None
    concurrency: int | None = None
    cpu_s: float | None = None
    #: Set by the finisher once the device has passed the end.
    device_times: clock.DeviceTimes | None = None
    end_event: clock.Lease | None = None
    error_type: str | None = None
    events: clock.Events | None = None
    #: Set by the finisher, which may be handed a window twice.
    finished = False
    memory_end: MemoryReading | None = None
    memory_start: MemoryReading | None = None
    #: Of the module called last inside.
    model_info: ModelInfo | None = None
    oom_requested_bytes: int | None = None
    open = True
    peak_holder: PeakHolder | None = None
    #: Set by a capture that it was in.
    profile: Profile | None = None
    repeated = None
    #: Its steps, where it takes any.
    steps: StepTimeline = None  # type: ignore[assignment]
    #: What it waited for and copied, or what was copied for it before it began.
    sync_copies: SyncCopyCounters | None = None
    ticket: ConcurrencyTicket | None = None
    #: The caller's thread, where its processor time is read.
    thread: int | None = None
    _token: Token[Any] | None = None

    def __init__(
        self,
        runtime_device: RuntimeDevice,
        span: Any,
        start_ns: int,
        began_ns: int,
        on_close: Callable[[Window], None],
        operation: str,
        model: ModelInfo | str | None,
        seen: Seen | None = None,
        *,
        takes_steps: bool = False,
        nested: bool = False,
        cpu_time: bool = True,
    ) -> None:
        self.operation = operation
        self.runtime_device = runtime_device
        self.span = span
        self.takes_steps = takes_steps
        self.covers = not takes_steps
        #: What runs: a model, its name only, or None where unknown.
        self.model_or_name = model
        self.seen = seen
        self.start_ns = start_ns
        self.began_ns = began_ns
        self._on_close = on_close
        self.garbage_start = self.garbage_end = garbage.state[0]
        self._nested = nested
        if takes_steps:
            self.steps = StepTimeline(began_ns, runtime_device.timeline)
        if cpu_time and span[-1]:
            self.thread = threading.get_ident()
            self.began_cpu_ns = clock.thread_ns()

    def begin(self) -> None:
        """Become the current scope and take the opening readings, the device's last."""
        self._token = current.set(self)
        runtime_device = self.runtime_device
        if not self._nested:
            self.ticket = runtime_device.enter(self)
        if runtime_device.ledger is not None:
            try:
                self.peak_holder, self.memory_start = runtime_device.ledger.open()
            except Exception as error:
                guard.caught("memory", error)
        if runtime_device.timeline is not None:
            try:
                self.events = runtime_device.timeline.start()
            except Exception as error:
                guard.caught("device events", error)

    @property
    def is_current(self) -> bool:
        """Whether it is the innermost scope of the caller."""
        return current.get() is self

    def fail(self, error: BaseException) -> None:
        """Remember which error left the inference: its class, never its message."""
        if isinstance(error, GeneratorExit) or not self.open:
            return  # a consumer that stops early is no error
        kind = type(error)
        name = kind.__qualname__
        self.error_type = name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
        if isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one
            try:
                self.oom_requested_bytes = requested_bytes(str(error))
            except Exception as unreadable:  # a text that can't be made gives no size
                guard.let_through(unreadable)

    def close(self) -> None:
        """Take the closing readings, the device's first, and hand the window on. Never raises."""
        if not self.open:
            return
        self.covers = self.takes_steps = False
        if self.events is not None:
            try:
                self.end_event = self.runtime_device.timeline.end(self.events)  # type: ignore[union-attr]
            except Exception as error:
                guard.caught("device events", error)
        self.ended_ns = clock.host_ns()
        self.garbage_end = garbage.state[0]
        if self.began_cpu_ns is not None and self.thread == threading.get_ident():
            self.cpu_s = (clock.thread_ns() - self.began_cpu_ns) / 1e9
        if self.peak_holder is not None:
            try:
                self.memory_end = self.runtime_device.ledger.close(self.peak_holder)  # type: ignore[union-attr]
            except Exception as error:
                guard.caught("memory", error)
        if not self._nested:
            self.concurrency = self.runtime_device.leave(self, self.ticket, self.ended_ns)
        if self.cache_observer is not None:
            self.cache_call = None
            self.cache_observer.close()
        self._on_close(self)
        self.open = False

    @property
    def window(self) -> Window:
        """The inference of the scope, as every scope that takes steps has it."""
        return self

    def identify(self, model: ModelInfo | None, seen: Seen | None) -> None:
        """Take model and input from a module call inside, the first one where nobody gave them."""
        if self.model_or_name is None:
            self.model_or_name = model
        if self.seen is None:
            self.seen = seen

    def step(
        self,
        model: ModelInfo | None,
        seen: Seen | None,
        call: Call | None = None,  # noqa: ARG002 - as LoopScope.step takes it
    ) -> StepScope:
        """Open a step; see `LoopScope.step`."""
        self.identify(model, seen)
        return StepScope(self.steps)

    @property
    def counters(self) -> SyncCopyCounters:
        """What it waits for and copies."""
        # Threads may come at once, and get the same one.
        return self.sync_copies or self.__dict__.setdefault("sync_copies", SyncCopyCounters())

    def seal(self) -> SyncCopyCounters:
        """Its counters, which are not to be added to any more. Runs on the finisher's thread."""
        return self.__dict__.setdefault("sync_copies", SEALED)  # type: ignore[no-any-return]

    @property
    def model(self) -> ModelInfo | None:
        """The model, where one was seen."""
        return self.model_or_name if isinstance(self.model_or_name, ModelInfo) else None


def disown(scope: Any, on_close: Callable[[Window], None]) -> None:
    """Forget a scope and those that it is in: in a forked child they are the parent's to end.

    Args:
        scope: the innermost one.
        on_close: called with each window instead when the child closes it, too.
    """
    while isinstance(scope, (MarkedStep, LoopScope, Skipped, StepScope, Window)):
        if isinstance(scope, (LoopScope, Skipped, StepScope, Window)):
            scope.covers = False
        if isinstance(scope, LoopScope):
            scope.open = False
        if isinstance(scope, (MarkedStep, LoopScope, Window)):
            scope.takes_steps = False
        if isinstance(scope, Window):
            scope._on_close = on_close
            scope.events = scope.peak_holder = None  # the child must not touch the device
            if scope.steps is not None:
                scope.steps.device_timeline = None
        scope = scope._token.old_value if scope._token is not None else None
