"""The steps of one window: which phase each module call inside it was, and when it ran.

Nothing is computed on the caller's thread: times go into arrays, and on a CUDA device an event is
recorded before and after each step. The finisher makes figures of them (`finish/step_times.py`).
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable
from contextvars import Token
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from warpspan import guard
from warpspan.probes import clock
from warpspan.probes.inputs import Seen
from warpspan.records.phases import PHASES
from warpspan.runtime.loop_notes import LoopNotes
from warpspan.runtime.scopes import Skipped, current, leave

if TYPE_CHECKING:
    from warpspan.probes.kv_observer import CacheCall, CacheObserver
    from warpspan.probes.model import ModelInfo

#: Steps of one inference whose own times are kept: 24 bytes each, with two events on a CUDA device.
#: Later steps are in the counts and totals, and not in the percentiles.
STEP_LIMIT = 2048
# Names that a user may give to steps in one inference, before the others are called "step".
_NAME_LIMIT = 64

#: A module and the arguments that it is called with.
Call: TypeAlias = tuple[Any, tuple[Any, ...], dict[str, Any]]
PhaseOf: TypeAlias = Callable[[Any, tuple[Any, ...], dict[str, Any]], int]


class StepTimeline:
    """The steps of one window, whose work may be spread over threads.

    A signal handler may mark a step in the middle of any method here, on the thread that is inside
    it: a step is added by one call, which nothing comes between, and the lock is re-entrant.

    Args:
        began_ns: host clock of the window's begin.
        device_timeline: the events of its device, or None where it has none.
    """

    def __init__(self, began_ns: int, device_timeline: clock.DeviceTimeline | None) -> None:
        self.began_ns = began_ns
        self.device_timeline = device_timeline
        #: Names of the phases by number; the well-known ones first.
        self.names = PHASES
        #: What hooks note about the loops, beside the times of their steps.
        self.notes = LoopNotes()
        #: Phase, begin and end of each step, one after the other.
        self.times_ns = array("q")
        #: The same with the events at begin and end, on a device that has events.
        self.on_device: list[Any] = []
        #: Steps beyond `STEP_LIMIT`, and the host time inside them.
        self.over = 0
        self.over_ns = 0
        self._kept = 0
        self._lock = threading.RLock()
        self._part: str | None = None

    def add(self, phase: int, began_ns: int, ended_ns: int, mark: Any) -> None:
        """Take a step that ended. Never raises: the user's own error must not be replaced."""
        try:
            if self._kept >= STEP_LIMIT:
                with self._lock:
                    self.over += 1
                    self.over_ns += ended_ns - began_ns
                    self.notes.overflow(phase, ended_ns)
                return
            self._kept += 1
            timeline = self.device_timeline
            if timeline is None:  # so it is in a child that was forked meanwhile
                self.times_ns.extend((phase, began_ns, ended_ns))
            elif mark is None:
                self.on_device.extend((phase, began_ns, ended_ns, None, None))
            else:
                stream, begin = mark
                end = timeline.mark_on(stream)
                self.on_device.extend((phase, began_ns, ended_ns, begin, end))
        except Exception as error:  # of the driver
            guard.caught("step", error)

    def mark(self) -> Any:
        """The event before a step and its stream, or None where none is to be recorded."""
        if self.device_timeline is None or self._kept >= STEP_LIMIT:
            return None
        try:
            return self.device_timeline.mark()
        except Exception as error:
            guard.caught("device events", error)
            return None

    def phase(self, name: str | None) -> int:
        """The number of a step's name."""
        if name is None:
            return 0
        with self._lock:
            if name not in self.names:
                if len(self.names) >= _NAME_LIMIT:
                    return 0
                self.names = (*self.names, name)
            return self.names.index(name)

    def enter_part(self, name: str) -> bool:
        """Begin a part of the host's own work; False inside another one, which counts it."""
        with self._lock:
            if self._part is not None:
                return False
            self._part = name
            return True

    def leave_part(self, spent_ns: int) -> None:
        """End the part."""
        with self._lock:
            if self._part is not None:
                self.notes.add_part(self._part, spent_ns)
                self._part = None


class HasSteps(Protocol):
    """The inference that steps are in: a `Window` that takes steps."""

    steps: StepTimeline
    #: The KV caches that were seen in it.
    cache_observer: CacheObserver | None
    #: The input of its first module call.
    seen: Seen | None

    @property
    def model(self) -> ModelInfo | None:
        """The model, where one was seen."""

    def identify(self, model: ModelInfo | None, seen: Seen | None) -> None:
        """Take model and input from a module call inside, the first one where nobody gave them."""


class StepScope:
    """A module call inside a window that takes steps."""

    __slots__ = ("_began_ns", "_mark", "_phase", "_steps", "_token", "cache_call", "covers")
    takes_steps = False
    repeated = None

    def __init__(self, steps: StepTimeline, phase: int = 0) -> None:
        self.covers = True
        self.cache_call: CacheCall | None = None
        self._steps = steps
        self._phase = phase
        self._mark = None if steps.device_timeline is None else steps.mark()
        self._began_ns = clock.host_ns()
        # Last: whatever finds it current finds it whole.
        self._token: Token[Any] = current.set(self)

    def fail(self, error: BaseException) -> None:
        """The window hears of it when it leaves the window too."""

    def close(self) -> None:
        """End the step."""
        ended_ns = clock.host_ns()
        if self.covers:
            self.covers = False
            self._steps.add(self._phase, self._began_ns, ended_ns, self._mark)
        leave(self)


class LoopScope:
    """A loop inside a window, whose module calls have parts in it.

    Args:
        window: the inference that it is in.
        phase_of: says which phase a module call is, by the module and its arguments.
    """

    __slots__ = (
        "_token",
        "covers",
        "model_info",
        "open",
        "phase_of",
        "repeat",
        "repeated",
        "repeats",
        "takes_steps",
        "window",
    )

    def __init__(self, window: HasSteps, phase_of: PhaseOf) -> None:
        #: Of the module called last.
        self.model_info: ModelInfo | None = None
        self.open = self.takes_steps = True
        #: Whether a `RepeatedStep` is open.
        self.covers = False
        #: The module whose calls are from now on steps of one phase, and how many there were.
        self.repeated: Any = None
        self.repeat: RepeatedStep
        self.repeats = 0
        self.window = window
        self.phase_of = phase_of
        self._token = current.set(self)

    def repeat_phase(self, module: Any, phase: int) -> None:
        """Take each further call of a module as a step of this phase, without asking `phase_of`."""
        if self.repeated is not module:
            self.repeat = RepeatedStep(self, phase)
            self.repeated = module

    def step(
        self, model: ModelInfo | None, seen: Seen | None, call: Call | None = None
    ) -> StepScope:
        """Open a step.

        Args:
            model: what is known of the module.
            seen: its input.
            call: the module and its arguments, None for what is no module call.
        """
        window = self.window
        window.identify(model, seen)
        phase = 0
        if call is not None:
            try:
                phase = self.phase_of(*call)
            except Exception as error:  # a library that changed its ways
                guard.caught("phase", error)
        return StepScope(window.steps, phase)

    def close(self) -> None:
        """Leave it."""
        self.open = self.covers = self.takes_steps = False
        self.repeated = None
        leave(self)


class RepeatedStep:
    """A step that a loop takes over and over: nothing is looked at anew, nothing is allocated.

    Between two forward passes of a model nothing of ours is in the processor's caches, so that each
    object and function that a step touches costs it: this is half of what a `StepScope` costs there
    (docs/measurements.md). The loop covers while it is open, in place of a scope of its own;
    what another thread calls meanwhile in a copy of the context is part of it.

    Args:
        loop: the loop.
        phase: of the steps.
    """

    __slots__ = ("_began_ns", "_loop", "_mark", "_phase", "_steps", "_thread")
    cache_call = None

    def __init__(self, loop: LoopScope, phase: int) -> None:
        self._loop = loop
        self._steps = loop.window.steps
        self._phase = phase
        self._thread = threading.get_ident()

    def open(self, kwargs: dict[str, Any]) -> bool:
        """Open the step; False where the call must be looked at: another KV cache or thread."""
        loop = self._loop
        observer = loop.window.cache_observer
        if observer is None or not observer.knows(kwargs) or threading.get_ident() != self._thread:
            return False
        steps = self._steps
        self._mark = None if steps.device_timeline is None else steps.mark()
        self._began_ns = clock.host_ns()
        loop.takes_steps = False
        loop.covers = True
        loop.repeats += 1
        return True

    def fail(self, error: BaseException) -> None:
        """The window hears of it when it leaves the window too."""

    def close(self) -> None:
        """End the step."""
        ended_ns = clock.host_ns()
        loop = self._loop
        if not loop.covers:
            return
        loop.takes_steps = loop.open
        loop.covers = False
        self._steps.add(self._phase, self._began_ns, ended_ns, self._mark)


class MarkedStep:
    """A step that the user marks: the module calls inside are part of it."""

    __slots__ = ("_step", "_token", "model_info", "takes_steps", "window")
    covers = False
    repeated = None

    def __init__(self, window: HasSteps, name: str | None) -> None:
        self.model_info: ModelInfo | None = None
        self.takes_steps = True
        self.window = window
        self._step = StepScope(window.steps, window.steps.phase(name))
        self._token = current.set(self)

    @property
    def is_current(self) -> bool:
        """Whether it is the innermost scope of the caller."""
        return current.get() is self

    def step(self, model: ModelInfo | None, seen: Seen | None, call: Call | None = None) -> Skipped:  # noqa: ARG002
        """A module call in the step identifies the window's model, and is no step of its own."""
        self.window.identify(model, seen)
        return Skipped()

    def fail(self, error: BaseException) -> None:
        """The window hears of it when it leaves the window too."""

    def close(self) -> None:
        """End the step."""
        self.takes_steps = False
        leave(self)
        self._step.close()
