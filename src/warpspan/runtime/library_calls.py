"""Calls of libraries: one inference each, or a part of the one that is open. Marked steps, host parts."""

from __future__ import annotations

import asyncio
from typing import Any

import torch

from warpspan import guard
from warpspan.records.phases import STEP
from warpspan.records.skips import SkipReason
from warpspan.runtime.admission import is_traced
from warpspan.runtime.loop_notes import LoopNotes
from warpspan.runtime.scopes import NO_SCOPE, Skipped, current
from warpspan.runtime.steps import LoopScope, MarkedStep, StepTimeline
from warpspan.runtime.tracker import Tracker, start_of
from warpspan.runtime.user_hooks import Returned, UserHooks
from warpspan.runtime.window import Window


class OpenCall:
    """What a hook knows of one call of its library. Subclasses say more.

    One is made for each call, before it runs. What its methods raise is counted and logged once, and
    does not reach the program.
    """

    #: What the call does; the span's name, so keep it to a few values.
    operation: str = "call"
    #: What runs: a module, which tells model and device, or a model's name, or None: the first step
    #: that is a module call tells.
    model: torch.nn.Module | str | None = None

    def opened(self, call: LibraryCall) -> None:
        """The call is recorded and runs next."""

    def phase(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """Which phase a module call inside is. Asked for each one, on the caller's thread."""
        del module, args, kwargs
        return STEP

    def result(self, value: Any, call: LibraryCall) -> None:
        """The call is recorded and gave this. Read shapes and lengths, nothing that waits."""


class LibraryCall:
    """A library's call that is open: its loop, and the window where it is an inference itself."""

    __slots__ = ("_hooked", "_loop", "_owned", "_window")

    def __init__(self, window: Skipped | Window, *, owned: bool) -> None:
        self._window = window
        self._owned = owned
        self._loop: LoopScope | None = None
        self._hooked: Returned | None = None

    @property
    def recorded(self) -> bool:
        """Whether it is a part of an inference that is recorded."""
        return self._loop is not None

    @property
    def notes(self) -> LoopNotes:
        """What the inference knows of its calls, to be added to. Only where it is recorded."""
        steps: StepTimeline = self._window.steps  # type: ignore[union-attr]
        return steps.notes

    @property
    def repeats(self) -> int:
        """Calls of the module of `repeat` so far."""
        return 0 if self._loop is None else self._loop.repeats

    def repeat(self, module: torch.nn.Module, phase: int) -> None:
        """From now on each call of a module is a step of this phase; `phase` is not asked."""
        if self._loop is not None:
            self._loop.repeat_phase(module, phase)

    def set_batch_size(self, size: int) -> None:
        """How many items the input has, where it is no tensor that the first step shows."""
        if isinstance(self._window, Window):
            self._window.identify(None, size)

    def begin(
        self, hooks: UserHooks | None, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Tell the user's hooks of a call that is an inference itself."""
        if hooks is not None and self._owned and isinstance(self._window, Window):
            self._hooked = hooks.opened(self._window.span, called, args, kwargs)

    def returned(self, value: Any) -> None:
        """Tell the user's hooks of its result."""
        if self._hooked is not None:
            self._hooked.returned(value)

    def fail(self, error: BaseException) -> None:
        """Remember what left the call."""
        if self._owned:
            self._window.fail(error)

    def close(self) -> None:
        """Leave it."""
        if self._loop is not None:
            self._loop.close()
        if self._owned:
            self._window.close()


def open_library_call(tracker: Tracker, call: OpenCall) -> LibraryCall | None:
    """A scope for a call of a library.

    Where an inference is open, the call is a part of it; else it is one itself.

    Args:
        tracker: where an inference is opened.
        call: what is known of it.

    Returns:
        None where it is part of a module call, or where nothing is run.
    """
    library_call = None
    try:
        if is_traced():
            return None
        outer = tracker.innermost()
        if outer.covers or isinstance(outer, MarkedStep):
            return None
        owned = outer is NO_SCOPE
        window: Skipped | Window = (
            _open_window(tracker, call.operation, call.model) if owned else outer.window
        )
        library_call = LibraryCall(window, owned=owned)
        if isinstance(window, Window):
            library_call._loop = LoopScope(window, call.phase)
    except BaseException as error:
        try:
            if not isinstance(error, Exception):
                raise
            guard.caught("begin", error)
        except BaseException:  # an interrupt
            if library_call is not None:
                library_call.close()
            raise
    return library_call


def enclosing_call() -> OpenCall | None:
    """The library's call that the caller is in, with no other scope between."""
    scope = current.get()
    call = getattr(scope.phase_of, "__self__", None) if isinstance(scope, LoopScope) else None
    return call if isinstance(call, OpenCall) else None


def _open_window(
    tracker: Tracker, operation: str, model: torch.nn.Module | str | None
) -> Skipped | Window:
    if isinstance(model, torch.nn.Module):
        model_info = tracker.registry.model_info(model)
        if not model_info.recorded:
            return tracker.admission.skip(model_info.skip_reason or SkipReason.FAULT)
        runtime_device = tracker.runtime_devices.at(model_info.device)
        name: str | None = model_info.name
    else:
        runtime_device = tracker.runtime_devices.current()
        model_info = name = model  # type: ignore[assignment]
    return tracker.open(
        runtime_device,
        *start_of(operation, name, runtime_device),
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


def open_host_part(name: str) -> StepTimeline | None:
    """Where to end a part of the host's own work; None where it is part of nothing."""
    outer = current.get()
    if not outer.takes_steps:
        return None
    steps: StepTimeline = outer.window.steps
    return steps if steps.enter_part(name) else None
