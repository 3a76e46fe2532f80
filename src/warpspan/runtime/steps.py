"""The steps of one window: what each module call inside it was a part of, and when it ran.

Nothing is computed on the caller's thread: times go into arrays, and on a CUDA device an event is
recorded before and after each step. The finisher makes the figures of them (`step_figures`).
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable
from contextvars import Token
from typing import TYPE_CHECKING, Any, TypeAlias

from warpspan import guard
from warpspan.finish.step_figures import Sections, StepTimes
from warpspan.probes import capture, clock
from warpspan.probes.inputs import Seen
from warpspan.records import PHASES, Steps
from warpspan.runtime.scopes import Skipped, current, leave

if TYPE_CHECKING:
    from warpspan.probes.kv_observer import CacheCall
    from warpspan.probes.model import ModelInfo
    from warpspan.runtime.window import Window

#: Steps of one inference whose own times are kept: 24 bytes each, and two events of the pool. Those
#: above are in the counts and totals, and not in the percentiles.
STEP_LIMIT = 2048
_LENGTH_LIMIT = 3 * STEP_LIMIT
# Names that a user may give to steps in one inference, before the others are called "step".
_NAME_LIMIT = 64
# The finisher asks the driver for so many times before it lets go of the GIL.
_SLICE = 128

#: A module and the arguments that it is called with.
Call: TypeAlias = tuple[Any, tuple[Any, ...], dict[str, Any]]
PhaseOf: TypeAlias = Callable[[Any, tuple[Any, ...], dict[str, Any]], int]


class StepTimeline:
    """The steps of one window. Locked, since a window's work may be spread over threads.

    Args:
        began_ns: host clock of the window's begin.
        timeline: the events of its device, or None where it has none.
    """

    def __init__(self, began_ns: int, timeline: clock.DeviceTimeline | None) -> None:
        self.timeline = timeline
        #: Steps as asked for by their name; the well-known ones first.
        self.names = PHASES
        #: What hooks know of the loops, beside the times of their steps.
        self.sections = Sections()
        self._began_ns = began_ns
        self._lock = threading.Lock()
        #: Phase, begin and end of each step, one after the other: taken in by one call, which no
        #: other thread comes between.
        self._times_ns = array("q")
        self._marks: list[Any] = []
        self._over = 0
        self._over_ns = 0
        self._part: str | None = None

    def add(self, phase: int, began_ns: int, ended_ns: int, mark: Any) -> None:
        """Take a step that ended. Never raises: the user's own error must not be replaced."""
        times_ns = self._times_ns
        try:
            if len(times_ns) >= _LENGTH_LIMIT:
                with self._lock:
                    self._over += 1
                    self._over_ns += ended_ns - began_ns
                    self.sections.overflow(phase, ended_ns, times_ns[-1])
            elif mark is None or self.timeline is None:  # none in a child that was forked meanwhile
                times_ns.extend((phase, began_ns, ended_ns))
            else:
                stream, begin = mark
                end = self.timeline.mark_on(stream)
                with self._lock:
                    times_ns.extend((phase, began_ns, ended_ns))
                    self._marks += (begin, end)
        except Exception as error:  # of the driver
            guard.caught("step", error)

    def mark(self) -> Any:
        """The event before a step and its stream, or None where none is to be recorded."""
        if self.timeline is None or len(self._times_ns) >= _LENGTH_LIMIT:
            return None
        try:
            return self.timeline.mark()
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
        """Begin a part of the host's own work; False inside another one, which has it already."""
        with self._lock:
            if self._part is not None:
                return False
            self._part = name
            return True

    def leave_part(self, spent_ns: int) -> None:
        """End the part."""
        with self._lock:
            if self._part is not None:
                self.sections.add_part(self._part, spent_ns)
                self._part = None

    def steps(self) -> Steps | None:
        """Count and host time; None where there was none."""
        times_ns = self._times_ns
        if not times_ns:
            return None
        spent_ns = sum(times_ns[2::3]) - sum(times_ns[1::3]) + self._over_ns
        first_ns = times_ns[2] - self._began_ns
        return Steps(len(times_ns) // 3 + self._over, first_ns / 1e9, spent_ns / 1e9)

    def times(self, start: Any, queue_s: float | None) -> StepTimes:
        """When each step ran, by the device's clock where all of it is known, else the host's.

        Runs on the finisher's thread.

        Args:
            start: the window's start event once its device is done, else None.
            queue_s: how long that event waited on the device, or None where unknown.
        """
        times_ns, begin = self._times_ns, self._began_ns
        phases = times_ns[::3]
        marks, self._marks = self._marks, []
        if start is not None and marks and len(marks) == 2 * len(phases):
            try:
                since_s = _since_s(start, marks)
                self.timeline.take_back(marks)  # type: ignore[union-attr]
            except Exception as error:  # a step on a stream that the window's end did not wait for
                guard.caught("device events", error)
                since_s = []
            if since_s:
                return StepTimes(self.names, phases, since_s[::2], since_s[1::2], "device", queue_s)
        return StepTimes(
            self.names,
            phases,
            [(at - begin) / 1e9 for at in times_ns[1::3]],
            [(at - begin) / 1e9 for at in times_ns[2::3]],
            "host",
            0.0,
        )


def _since_s(start: Any, marks: list[Any]) -> list[float]:
    """Seconds from an event to others; none where a graph capture is open meanwhile."""
    since_s: list[float] = []
    for first in range(0, len(marks), _SLICE):
        part = marks[first : first + _SLICE]
        if not capture.gate.ask(lambda part=part: _ask(start, part, since_s)):  # type: ignore[misc]
            return []
        clock.yield_gil()
    return since_s


def _ask(start: Any, marks: list[Any], since_s: list[float]) -> bool:
    since_s += [start.elapsed_time(mark) / 1e3 for mark in marks]
    return True


class StepScope:
    """A module call inside a window that takes steps."""

    __slots__ = ("_began_ns", "_mark", "_phase", "_steps", "_token", "covers", "use")
    takes_steps = False
    repeated = None

    def __init__(self, steps: StepTimeline, phase: int = 0) -> None:
        self.covers = True
        self.use: CacheCall | None = None
        self._steps = steps
        self._phase = phase
        self._token: Token[Any] = current.set(self)
        self._mark = None if steps.timeline is None else steps.mark()
        self._began_ns = clock.host_ns()

    def fail(self, error: BaseException) -> None:
        """The window hears of it when it leaves the window too."""

    def close(self) -> None:
        """End the step."""
        ended_ns = clock.host_ns()
        self.covers = False
        try:
            if current.get() is self:
                current.reset(self._token)
        except (RuntimeError, ValueError):  # see `leave`
            pass
        self._steps.add(self._phase, self._began_ns, ended_ns, self._mark)


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

    def __init__(self, window: Window, phase_of: PhaseOf) -> None:
        #: Of the module called last.
        self.model_info: ModelInfo | None = None
        self.open = self.takes_steps = True
        #: Whether a `Repeat` is open.
        self.covers = False
        #: The module whose calls are from now on steps of one phase, and how many there were.
        self.repeated: Any = None
        self.repeat: RepeatedStep
        self.repeats = 0
        self.window = window
        self.phase_of = phase_of
        self._token = current.set(self)

    def settle(self, module: Any, phase: int) -> None:
        """From now on each call of a module is a step of this phase: `phase_of` is not asked."""
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
        window.tell(model, seen)
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
    (docs/measurements.md). The section covers while it is open, in place of a scope of its own;
    what another thread calls meanwhile in a copy of the context is part of it.

    Args:
        section: the loop.
        phase: of the steps.
    """

    __slots__ = ("_began_ns", "_mark", "_phase", "_section", "_steps", "_thread")
    use = None

    def __init__(self, section: LoopScope, phase: int) -> None:
        self._section = section
        self._steps = section.window.steps
        self._phase = phase
        self._thread = threading.get_ident()

    def open(self, kwargs: dict[str, Any]) -> bool:
        """Open the step; False where the call must be looked at: another KV cache or thread."""
        section = self._section
        caches = section.window.caches
        if caches is None or not caches.knows(kwargs) or threading.get_ident() != self._thread:
            return False
        section.covers = True
        section.takes_steps = False
        section.repeats += 1
        steps = self._steps
        self._mark = None if steps.timeline is None else steps.mark()
        self._began_ns = clock.host_ns()
        return True

    def fail(self, error: BaseException) -> None:
        """The window hears of it when it leaves the window too."""

    def close(self) -> None:
        """End the step."""
        ended_ns = clock.host_ns()
        section = self._section
        section.covers = False
        section.takes_steps = section.open
        self._steps.add(self._phase, self._began_ns, ended_ns, self._mark)


class MarkedStep:
    """A step that the user marks: the module calls inside are part of it."""

    __slots__ = ("_step", "_token", "model_info", "takes_steps", "window")
    covers = False
    repeated = None

    def __init__(self, window: Window, name: str | None) -> None:
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
        """A module call in the step is told to the window, and is no step of its own."""
        self.window.tell(model, seen)
        return Skipped()

    def close(self) -> None:
        """End the step."""
        self.takes_steps = False
        leave(self)
        self._step.close()
