"""Loops inside an inference: those of libraries, steps that the user marks, and the host's parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import torch

from warpspan import guard
from warpspan.records.skips import SkipReason
from warpspan.runtime.admission import is_traced
from warpspan.runtime.loop_notes import LoopNotes
from warpspan.runtime.scopes import NO_SCOPE, Skipped, current
from warpspan.runtime.steps import LoopScope, MarkedStep, PhaseOf, StepTimeline
from warpspan.runtime.tracker import Tracker, start_of
from warpspan.runtime.window import Window


class Loop:
    """A loop of a library that is open: the section, and the window where the loop is one itself."""

    __slots__ = ("_owned", "_window", "section")

    def __init__(self, window: Skipped | Window, *, owned: bool) -> None:
        self._window = window
        self._owned = owned
        self.section: LoopScope | None = None

    @property
    def sections(self) -> LoopNotes | None:
        """What the inference knows of its loops, or None where it is not recorded."""
        return self._window.steps.notes if isinstance(self._window, Window) else None

    def fail(self, error: BaseException) -> None:
        """Remember what left the loop."""
        if self._owned:
            self._window.fail(error)

    def close(self) -> None:
        """Leave it."""
        if self.section is not None:
            self.section.close()
        if self._owned:
            self._window.close()


def open_loop(
    tracker: Tracker,
    operation: str,
    model: torch.nn.Module,
    phase_of: PhaseOf,
    opened: Callable[[LoopNotes], None],
) -> Loop | None:
    """A scope for a loop of a library; module calls inside are its steps.

    Where an inference is open, the loop is a part of it; else it is one itself.

    Args:
        tracker: where an inference is opened.
        operation: what it does.
        model: the model that it calls.
        phase_of: says which phase a module call is, by the module and its arguments.
        opened: called with what the inference knows of its loops, to be added to.

    Returns:
        None where it is part of a module call, or where nothing is run.
    """
    loop = None
    try:
        if is_traced():
            return None
        outer = tracker.innermost()
        if outer.covers or isinstance(outer, MarkedStep):
            return None
        owned = outer is NO_SCOPE
        window: Skipped | Window = (
            _open_window(tracker, operation, model) if owned else outer.window
        )
        loop = Loop(window, owned=owned)
        if isinstance(window, Window):
            loop.section = LoopScope(window, phase_of)
            opened(window.steps.notes)
    except Exception as error:
        guard.caught("begin", error)
    except BaseException:
        if loop is not None:
            loop.close()  # a KeyboardInterrupt must not leave the caller inside
        raise
    return loop


def _open_window(tracker: Tracker, operation: str, model: torch.nn.Module) -> Skipped | Window:
    model_info = tracker.registry.model_info(model)
    if not model_info.recorded:
        return tracker.admission.skip(model_info.skip_reason or SkipReason.FAULT)
    runtime_device = tracker.runtime_devices.at(model_info.device)
    return tracker.open(
        runtime_device,
        *start_of(operation, model_info.name, runtime_device),
        operation,
        model_info,
        takes_steps=True,
        cpu_time=asyncio._get_running_loop() is None,
    )


def open_mark(tracker: Tracker, name: str | None) -> MarkedStep | None:
    """A scope for a step that the user marks; None where no inference takes steps."""
    try:
        outer = tracker.innermost()
        if isinstance(outer, (LoopScope, Window)) and outer.takes_steps:
            return MarkedStep(outer.window, name)
    except Exception as error:
        guard.caught("step", error)
    return None


def open_part(name: str) -> StepTimeline | None:
    """Where to end a part of the host's own work; None where it is part of nothing."""
    outer = current.get()
    if not outer.takes_steps:
        return None
    steps: StepTimeline = outer.window.steps
    return steps if steps.enter_part(name) else None
