"""Decides what is an inference, opens windows, and turns closed ones into records."""

from __future__ import annotations

import asyncio
import fnmatch
import multiprocessing.util
import os
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from warpspan import guard
from warpspan.completion import Completion
from warpspan.config import Settings
from warpspan.probes import clock, inputs
from warpspan.probes.memory import process_rss_bytes
from warpspan.probes.model import Entry, Registry, unwrap
from warpspan.probes.place import Meter, Place, Places
from warpspan.records import DeviceState, start_attributes
from warpspan.scopes import OUTSIDE, Shade, current, is_open, leave
from warpspan.step_figures import Sections
from warpspan.steps import Mark, PhaseOf, Section, Step, StepTally
from warpspan.window import Sink, Window, disown

Scope: TypeAlias = Shade | Step | Window

# One reading of /proc serves all inferences that are finished within this time.
_RSS_AGE_NS = 50_000_000

# Bound once: each is asked for every outermost call.
_tracing_state = torch._C._get_tracing_state
_graph_task_id = torch._C._current_graph_task_id
_dispatch_mode = torch._C._get_dispatch_mode
_is_compiling = torch.compiler.is_compiling
_is_grad_enabled = torch.is_grad_enabled
_FAKE = torch._C._TorchDispatchModeKey.FAKE


class Tracker:
    """All that one instrumentation holds.

    Args:
        settings: what the user chose.
        sink: where spans begin and records end.
        meter: makes the meter of a CUDA device, or None where it has none.
    """

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        meter: Callable[[Place], Meter | None] | None = None,
    ) -> None:
        self.settings = settings
        self._meter = meter
        self.sink = sink
        self.registry = Registry(self._is_recorded)
        self.completion = Completion(
            self._finish, settings.queue_size, settings.flush_timeout_s, self._hurry
        )
        self.places = self._make_places()
        self._rss_bytes: int | None = None
        self._rss_due_ns = 0
        self._survive_forks()

    def open_call(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Scope | None:
        """A scope for a module call that nothing open covers; None where nothing is run.

        An error of ours leaves the call unrecorded.
        """
        try:
            if (
                _tracing_state() is not None  # torch.jit.trace
                or _is_compiling()  # torch.export
                or _graph_task_id() != -1  # checkpoint recompute in a backward
                or "_is_replica" in module.__dict__  # DataParallel: its threads have no context
                or _dispatch_mode(_FAKE) is not None
            ):
                return None
            outer = current.get()
            if outer is not OUTSIDE:
                if not outer.takes_steps:
                    outer = self._settle()
                if outer.takes_steps:
                    return self._open_step(outer, module, args, kwargs)
            if _is_grad_enabled() and not self.settings.training and _is_training(module):
                return Shade()
            entry = self.registry.entry(module)
            if not entry.recorded:
                return Shade()
            if entry.start is None:
                entry.place = self.places.at(entry.device)
                entry.start = _start("forward", entry.name, entry.place)
            name, attributes = entry.start
            try:
                seen = inputs.look(args, kwargs)
            except Exception as error:  # a mapping of the user's may do anything
                guard.caught("input", error)
                seen = None
            return self._open(entry.place, name, attributes, "forward", entry, seen)
        except Exception as error:
            guard.caught("begin", error)
            return Shade()

    def _open_step(
        self,
        outer: Mark | Section | Window,
        module: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Scope:
        # One that was called before is not looked at anew: only the first step tells its model.
        entry = outer.entry
        if entry is None or entry.module() is not module:
            entry = outer.entry = self.registry.entry(module)
        if not entry.recorded:
            return Shade()
        seen = inputs.look(args, kwargs) if outer.window.seen is None else None
        return outer.step(entry, seen, (module, args, kwargs))

    def open_loop(
        self,
        operation: str,
        model: torch.nn.Module,
        phase_of: PhaseOf,
        opened: Callable[[Sections], None],
    ) -> Loop | None:
        """A scope for a loop of a library; module calls inside are its steps.

        Where an inference is open, the loop is a part of it; else it is one itself.

        Args:
            operation: what it does.
            model: the model that it calls.
            phase_of: says which phase a module call is, by the module and its arguments.
            opened: called with what the inference knows of its loops, to be added to.

        Returns:
            None where it is part of a module call, or where nothing is run.
        """
        loop = None
        try:
            if _tracing_state() is not None or _is_compiling() or _dispatch_mode(_FAKE) is not None:
                return None
            outer = self._settle()
            if outer.covers or isinstance(outer, Mark):
                return None
            owned = outer is OUTSIDE
            window: Shade | Window = self._open_loop(operation, model) if owned else outer.window
            loop = Loop(window, owned=owned)
            if isinstance(window, Window):
                loop.section = Section(window, phase_of)
                opened(window.steps.sections)
        except Exception as error:
            guard.caught("begin", error)
        except BaseException:
            if loop is not None:
                loop.close()  # a KeyboardInterrupt must not leave the caller inside
            raise
        return loop

    def _open_loop(self, operation: str, model: torch.nn.Module) -> Shade | Window:
        entry = self.registry.entry(model)
        if not entry.recorded:
            return Shade()
        place = self.places.at(entry.device)
        return self._open(
            place,
            *_start(operation, entry.name, place),
            operation,
            entry,
            takes_steps=True,
            cpu_time=asyncio._get_running_loop() is None,
        )

    def open_mark(self, name: str | None) -> Mark | None:
        """A scope for a step that the user marks; None where no inference takes steps."""
        try:
            outer = self._settle()
            if isinstance(outer, (Section, Window)) and outer.takes_steps:
                return Mark(outer.window, name)
        except Exception as error:
            guard.caught("step", error)
        return None

    def open_part(self, name: str) -> StepTally | None:
        """Where to end a part of the host's own work; None where it is part of nothing."""
        outer = current.get()
        if not outer.takes_steps:
            return None
        tally: StepTally = outer.window.steps
        return tally if tally.enter_part(name) else None

    def open_named(self, operation: str, model: torch.nn.Module | str | None) -> Shade | Window:
        """A scope for an inference that the user names; module calls inside are its steps."""
        try:
            entry: Entry | str | None = model if isinstance(model, str) else None
            if isinstance(model, torch.nn.Module):
                entry = self.registry.entry(model)
                place = self.places.at(entry.device)
            else:
                place = self.places.current()
            name = entry.name if isinstance(entry, Entry) else entry
            outer = self._settle()
            return self._open(
                place,
                *_start(operation, name, place),
                operation,
                entry,
                None,
                True,  # takes steps
                isinstance(outer, (Mark, Section, Step, Window)) and is_open(outer),
                # In an event loop the thread also works for others while this one waits.
                asyncio._get_running_loop() is None,
            )
        except Exception as error:
            guard.caught("begin", error)
            return Shade()

    def devices(self) -> list[DeviceState]:
        """The devices of this process on which inferences ran."""
        return [place.state for place in self.places]

    def flush(self, timeout_s: float) -> bool:
        """Finish what was closed so far and hand it to the exporters; False where time ran out."""
        deadline = time.monotonic() + timeout_s
        finished = self.completion.flush(timeout_s)
        return self.sink.flush(max(0.0, deadline - time.monotonic())) and finished

    def stop(self) -> None:
        """Finish what is in flight and end the finisher. Open windows end without a record."""
        self.completion.stop()

    def _open(
        self,
        place: Place,
        name: str,
        attributes: dict[str, Any],
        operation: str,
        model: Entry | str | None,
        seen: inputs.Seen | None = None,
        takes_steps: bool = False,
        nested: bool = False,
        cpu_time: bool = True,
    ) -> Shade | Window:
        if place.timeline is not None and place.timeline.capturing:
            return Shade()  # the graph's replay is the inference, its capture computes nothing
        completion = self.completion
        if completion.full:
            completion.dropped["queue_full"] += 1
            return Shade()
        start_ns, began_ns = clock.wall_ns(), clock.host_ns()
        span = self.sink.start(name, attributes, start_ns)
        if span is None:
            return Shade()
        window = Window(
            place,
            span,
            start_ns,
            began_ns,
            self._closed,
            operation,
            model,
            seen,
            takes_steps,
            nested,
            cpu_time,
        )
        try:
            window.begin()
        except BaseException:
            window.close()  # a KeyboardInterrupt must not leave the caller inside
            raise
        return window

    def _closed(self, window: Window) -> None:
        try:
            if leave(window):
                self.sink.leave(window.span)
            if current.get() is not OUTSIDE:
                self._settle()
        except Exception as error:
            guard.caught("end", error)
        self.completion.push(window)

    def _settle(self) -> Any:
        """The scope that the caller is in, now that those are left that ended.

        One may have ended where it could not be left: on another thread, or out of turn.
        """
        scope = current.get()
        while not is_open(scope) and leave(scope):
            if isinstance(scope, Window):
                self.sink.leave(scope.span)
            scope = current.get()
        return scope

    def _finish(self, window: Window, device_done: bool) -> None:
        now = time.perf_counter_ns()
        if now >= self._rss_due_ns:
            self._rss_due_ns = now + _RSS_AGE_NS
            self._rss_bytes = process_rss_bytes()
        record = window.record(
            device_done=device_done,
            rss_bytes=self._rss_bytes,
            details=self.settings.steps != "summary",
        )
        self.sink.finish(window.span, record)

    def _is_recorded(self, entry: Entry) -> bool:
        kind = entry.device.type
        if kind == "meta" or (kind == "cuda" and not torch.cuda.is_initialized()):
            return False  # shapes only: meta and fake tensors
        if entry.exports:
            return False
        if any(fnmatch.fnmatchcase(entry.name, name) for name in self.settings.excluded_models):
            return False
        return entry.has_state or self.settings.parameterless

    def _make_places(self) -> Places:
        return Places(
            memory=self.settings.memory,
            pool_size=2 * self.settings.queue_size,
            meter=self._meter,
        )

    def _hurry(self) -> None:
        for place in self.places:
            if place.meter is not None:
                place.meter.hurry()

    def _survive_forks(self) -> None:
        tracker = weakref.ref(self)

        def before() -> None:
            if (found := tracker()) is not None:
                found.completion.pause()

        def in_parent() -> None:
            if (found := tracker()) is not None:
                found.completion.resume()

        def in_child() -> None:
            if (found := tracker()) is not None:
                found._start_anew()

        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)
        # multiprocessing's forked children leave without running exit handlers.
        multiprocessing.util.register_after_fork(self, Tracker._flush_at_child_exit)
        if multiprocessing.process.parent_process() is not None:  # torch was imported in a child
            self._flush_at_child_exit()

    def _start_anew(self) -> None:
        disown(current.get(), lambda window: self.sink.leave(window.span))
        current.set(OUTSIDE)
        self.completion.reset()
        guard.faults.clear()
        self.places = self._make_places()
        self.registry.forget()
        clock.gate = clock.CaptureGate()

    def _flush_at_child_exit(self) -> None:
        multiprocessing.util.Finalize(
            None, self.flush, args=(self.settings.flush_timeout_s,), exitpriority=10
        )


class Loop:
    """A loop of a library that is open: the section, and the window where the loop is one itself."""

    __slots__ = ("_owned", "_window", "section")

    def __init__(self, window: Shade | Window, *, owned: bool) -> None:
        self._window = window
        self._owned = owned
        self.section: Section | None = None

    @property
    def sections(self) -> Sections | None:
        """What the inference knows of its loops, or None where it is not recorded."""
        return self._window.steps.sections if isinstance(self._window, Window) else None

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


def _is_training(module: torch.nn.Module) -> bool:
    # torch.compile's wrapper does not follow when the model inside is put into evaluation mode.
    model = unwrap(module)
    # A frozen script module has no mode. An exported program is always in training mode, and its
    # eval() is made to raise.
    return getattr(model, "training", False) and "eval" not in model.__dict__


def _start(operation: str, model: str | None, place: Place) -> tuple[str, dict[str, Any]]:
    name = operation if model is None else f"{operation} {model}"
    return name, start_attributes(operation, model, place.device)
