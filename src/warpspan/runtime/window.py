"""The open inference: raw readings at its begin and end, nothing computed in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Token
from functools import partial
from typing import Any, Protocol, TypeAlias

from warpspan import guard
from warpspan.finish.kv_leaks import Ledger
from warpspan.finish.step_figures import figures
from warpspan.probes import capture, clock, garbage, inputs
from warpspan.probes.kv_observer import CacheCall, CacheObserver
from warpspan.probes.memory import MemoryReading, PeakHolder, requested_bytes
from warpspan.probes.model import ModelInfo
from warpspan.probes.runtime_device import ConcurrencyTicket, RuntimeDevice, host_idle_s
from warpspan.probes.transfers import SEALED, SyncCopyCounters
from warpspan.records import Inference, Loop, Memory, Model, Timing
from warpspan.runtime.scopes import NoScope, Skipped, current
from warpspan.runtime.steps import Call, LoopScope, MarkedStep, StepScope, StepTimeline


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
    _entrance: ConcurrencyTicket | None = None
    _error_type: str | None = None
    _events: clock.Events | None = None
    _holder: PeakHolder | None = None
    _memory_end: MemoryReading | None = None
    _memory_start: MemoryReading | None = None
    _oom_requested: int | None = None
    #: What it waited for and copied, or what was copied for it before.
    noted: SyncCopyCounters | None = None
    _thread: int | None = None
    _times: clock.DeviceTimes | None = None
    _token: Token[Any] | None = None
    #: The KV caches that were seen in it.
    caches: CacheObserver | None = None
    open = True
    repeated = None
    #: Of the module called last inside.
    model_info: ModelInfo | None = None
    #: Its steps, where it takes any.
    steps: StepTimeline = None  # type: ignore[assignment]
    #: The module call's own use of a KV cache, where it may have one.
    use: CacheCall | None = None

    def __init__(
        self,
        runtime_device: RuntimeDevice,
        span: Any,
        start_ns: int,
        began_ns: int,
        closed_to: Callable[[Window], None],
        operation: str,
        model: ModelInfo | str | None,
        seen: inputs.Seen | None = None,
        takes_steps: bool = False,
        nested: bool = False,
        cpu_time: bool = True,
    ) -> None:
        self.operation = operation
        self.runtime_device = runtime_device
        self.span = span
        self.takes_steps = takes_steps
        self.covers = not takes_steps
        self._model = model
        self.seen = seen
        self._start_ns = start_ns
        self._began_ns = began_ns
        self._closed_to = closed_to
        self._garbage = self._garbage_end = garbage.state
        if takes_steps:
            self.steps = StepTimeline(began_ns, runtime_device.timeline)
        if not nested:
            self._entrance = runtime_device.enter()
        if cpu_time and span[-1]:
            self._thread = threading.get_ident()
            self._began_cpu_ns = clock.thread_ns()

    def begin(self) -> None:
        """Become the current scope and take the opening readings, the device's last."""
        self._token = current.set(self)
        runtime_device = self.runtime_device
        if runtime_device.ledger is not None:
            try:
                self._holder, self._memory_start = runtime_device.ledger.open()
            except Exception as error:
                guard.caught("memory", error)
        if runtime_device.timeline is not None:
            try:
                self._events = runtime_device.timeline.start()
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
                self._end_event = self.runtime_device.timeline.end(self._events)  # type: ignore[union-attr]
            except Exception as error:
                guard.caught("device events", error)
        self._ended_ns = clock.host_ns()
        self._garbage_end = garbage.state
        if self._began_cpu_ns is not None and self._thread == threading.get_ident():
            self._cpu_s = (clock.thread_ns() - self._began_cpu_ns) / 1e9
        if self._holder is not None:
            try:
                self._memory_end = self.runtime_device.ledger.close(self._holder)  # type: ignore[union-attr]
            except Exception as error:
                guard.caught("memory", error)
        if self._entrance is not None:
            self._concurrency = self.runtime_device.leave(self._entrance, self._ended_ns)
        if self.caches is not None:
            self.use = None
            self.caches.close()
        self._closed_to(self)

    @property
    def window(self) -> Window:
        """The inference of the scope, as every scope that takes steps has it."""
        return self

    def tell(self, model: ModelInfo | None, seen: inputs.Seen | None) -> None:
        """A module call inside. The first one tells model and input where nobody else did."""
        if self._model is None:
            self._model = model
        if self.seen is None:
            self.seen = seen

    def step(
        self, model: ModelInfo | None, seen: inputs.Seen | None, call: Call | None = None
    ) -> StepScope:
        """Open a step; see `LoopScope.step`."""
        self.tell(model, seen)
        return StepScope(self.steps)

    @property
    def counters(self) -> SyncCopyCounters:
        """What it waited for and copied."""
        # Threads may come at once, and get the same one.
        return self.noted or self.__dict__.setdefault("noted", SyncCopyCounters())

    @property
    def model(self) -> ModelInfo | None:
        """The model, where one was seen."""
        return self._model if isinstance(self._model, ModelInfo) else None

    @property
    def done(self) -> bool:
        """Whether the device has passed the end of the inference. Asks, never waits."""
        try:
            if self.noted is not None and not self.noted.settled(capture.gate.ask):
                return False  # a copy or a call that belongs to it is under way
            if self._end_event is None or self._times is not None:
                return True
            overlapped = self._entrance is None or self._entrance[0] > 0
            self._times = self.runtime_device.timeline.times(  # type: ignore[union-attr]
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
        meter = self.runtime_device.meter
        return meter is None or self._end_event is None or meter.settled(self._events)

    def record(
        self, *, device_done: bool, rss_bytes: int | None, details: bool = False
    ) -> Inference:
        """The finished inference, with each of its steps for `details`. Runs on the finisher's thread."""
        entrance = self._entrance
        counters: SyncCopyCounters = self.__dict__.setdefault("noted", SEALED)
        device_s = queue_s = idle_s = usage = None
        if self.runtime_device.is_host:
            if entrance is not None:
                idle_s = host_idle_s(entrance, self._began_ns)
        elif device_done and self._times is not None:
            device_s, queue_s, idle_s = self._times
            if entrance is None:  # inside another inference there is no gap to speak of
                idle_s = None
            if self.runtime_device.meter is not None:
                usage = self.runtime_device.meter.usage(self._events)
        duration_s = (self._ended_ns - self._began_ns) / 1e9
        steps = loop = None
        if self.steps is not None:  # a module call has none
            steps = self.steps.steps()
            try:
                loop = self._loop(duration_s, device_s, queue_s, details=details)
            except Exception as error:
                guard.caught("steps", error)
        syncs, transfers = counters.describe(device_s)
        return Inference(
            operation=self.operation,
            start_ns=self._start_ns,
            duration_s=duration_s,
            device=self.runtime_device.device,
            model=self._model.facts() if isinstance(self._model, ModelInfo) else Model(self._model),
            input=inputs.describe(self.seen),
            timing=Timing(
                self._cpu_s,
                device_s,
                queue_s,
                idle_s,
                self._concurrency,
                *garbage.between(self._garbage, self._garbage_end),
            ),
            memory=self._memory(rss_bytes),
            steps=steps,
            usage=usage,
            loop=loop,
            syncs=syncs,
            transfers=transfers,
            error_type=self._error_type,
        )

    def settle_caches(self, ledger: Ledger, record: Inference) -> Inference:
        """The record with its KV cache. Runs on the finisher's thread."""
        if self.caches is None:
            return record
        try:
            cache = ledger.settle(
                self.caches.tracks,
                record,
                limit_bytes=self.runtime_device.limit_bytes,
                span_ns=(self._began_ns, self._ended_ns),
                turn=self.steps is not None,
            )
        except Exception as error:
            guard.caught("kv cache", error)
            return record
        return record._replace(cache=cache)

    def _loop(
        self, duration_s: float, device_s: float | None, queue_s: float | None, *, details: bool
    ) -> Loop | None:
        start = cycles = None
        if device_s is not None and self._events is not None:
            start = self._events.start.event
            if self.runtime_device.meter is not None:
                cycles = partial(self.runtime_device.meter.during, self._events)
        times = self.steps.times(start, queue_s)
        total_s = device_s if times.source == "device" else duration_s
        return figures(times, self.steps.sections, total_s=total_s, details=details, cycles=cycles)

    def _memory(self, rss_bytes: int | None) -> Memory | None:
        runtime_device, start, end = self.runtime_device, self._memory_start, self._memory_end
        if start is None or end is None or self._holder is None:
            rss_bytes = rss_bytes if runtime_device.is_host else None
            if self._oom_requested is None and rss_bytes is None:
                return None
            return Memory(oom_requested_bytes=self._oom_requested, rss_bytes=rss_bytes)
        peak = self._holder.peak
        runtime_device.allocated_bytes, runtime_device.reserved_bytes = end.allocated, end.reserved
        return Memory(
            allocated_start_bytes=start.allocated,
            allocated_end_bytes=end.allocated,
            peak_bytes=peak,
            peak_increase_bytes=peak - start.allocated,
            reserved_bytes=end.reserved,
            limit_bytes=runtime_device.limit_bytes,
            utilization=peak / runtime_device.limit_bytes if runtime_device.limit_bytes else None,
            allocation_retries=end.retries - start.retries,
            oom_requested_bytes=self._oom_requested,
        )


Scope: TypeAlias = MarkedStep | NoScope | LoopScope | Skipped | StepScope | Window


def disown(scope: Any, closed_to: Callable[[Window], None]) -> None:
    """Forget it and those that it is in: in a forked child they are the parent's to end.

    Args:
        scope: the innermost one.
        closed_to: called with each window instead when the child closes it, too.
    """
    while isinstance(scope, (MarkedStep, LoopScope, Skipped, StepScope, Window)):
        if isinstance(scope, (LoopScope, Skipped, StepScope, Window)):
            scope.covers = False
        if isinstance(scope, LoopScope):
            scope.open = False
        if isinstance(scope, (MarkedStep, LoopScope, Window)):
            scope.takes_steps = False
        if isinstance(scope, Window):
            scope._closed_to = closed_to
            scope._events = scope._holder = None  # the child must not touch the device
            if scope.steps is not None:
                scope.steps.timeline = None
        scope = scope._token.old_value if scope._token is not None else None
