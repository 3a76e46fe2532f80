"""Opens what a caller begins: an inference, a step of the one that is open, or nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch

from warpspan import forks, guard
from warpspan.config import Settings
from warpspan.probes import clock, inputs
from warpspan.probes.graphs import Graph, Graphs
from warpspan.probes.kv_observer import cache_call_of
from warpspan.probes.layout import Layout
from warpspan.probes.model import ModelInfo, ModelRegistry, is_training
from warpspan.probes.runtime_device import MeterFactory, RuntimeDevice, RuntimeDevices
from warpspan.probes.unseen import Unseen, is_watched
from warpspan.records import DeviceState, DropReason, start_attributes
from warpspan.records.skips import SkipReason
from warpspan.runtime.admission import (
    FAKE,
    Admission,
    dispatch_mode,
    graph_task_id,
    is_compiling,
    tracing_state,
)
from warpspan.runtime.callers import DEPTH, Callers, Method, MethodWindow
from warpspan.runtime.scopes import NO_SCOPE, Skipped, current, is_open, leave
from warpspan.runtime.steps import HasSteps, LoopScope, MarkedStep, RepeatedStep, StepScope
from warpspan.runtime.transfer_attribution import TransferAttribution
from warpspan.runtime.user_hooks import UserHooks
from warpspan.runtime.window import ClosedWindows, SpanSource, Window, disown

Scope: TypeAlias = RepeatedStep | Skipped | StepScope | Window

_is_grad_enabled = torch.is_grad_enabled
_getframe = sys._getframe
_same_process = forks.mark
_QUEUE_FULL = DropReason.QUEUE_FULL.value


class Tracker:
    """The caller's side of one session.

    Args:
        settings: what the user chose.
        spans: where spans begin.
        closed: where windows go when they are closed.
        meter: makes the meter of a CUDA device, or None where it has none.
        user_hooks: what the user wants to be called for calls of modules and libraries.
    """

    def __init__(
        self,
        settings: Settings,
        spans: SpanSource,
        closed: ClosedWindows,
        meter: MeterFactory | None = None,
        user_hooks: UserHooks | None = None,
    ) -> None:
        self.settings = settings
        self._spans = spans
        self._closed = closed
        self._meter = meter
        self.user_hooks = user_hooks
        self.admission = Admission(settings)
        self.attribution = TransferAttribution(spans)
        self.registry = ModelRegistry(self.admission.of_model)
        self.graphs = Graphs()
        self.callers = Callers() if settings.methods else None
        self.runtime_devices = self._make_runtime_devices()

    def open_call(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Scope | None:
        """A scope for a module call that nothing open covers; None where it passes transparently.

        An error of ours leaves the call unrecorded.
        """
        if is_watched():
            with Unseen():
                return self.open_call(module, args, kwargs)
        try:
            outer = current.get()
            if outer.repeated is module and not self.graphs.open and outer.repeat.open(kwargs):
                return outer.repeat  # type: ignore[no-any-return]
            if (
                tracing_state() is not None  # torch.jit.trace
                or is_compiling()  # torch.export
                or graph_task_id() != -1  # checkpoint recompute in a backward
                or "_is_replica" in module.__dict__  # DataParallel
                or dispatch_mode(FAKE) is not None
            ):
                return self.admission.not_run(module)
            if self.graphs.open and (graph := self.graphs.here()) is not None:
                return self._capture(graph, module, args, kwargs)
            if outer is not NO_SCOPE:
                if not outer.takes_steps or type(outer) is MethodWindow:
                    outer = self.innermost()
                if outer.takes_steps:
                    return self._open_step(outer, module, args, kwargs)
            training = _is_grad_enabled() and not self.settings.training and is_training(module)
            model_info = self.registry.model_info(module)
            if training or not model_info.recorded:
                return self._not_admitted(model_info, training=training)
            callers = self.callers
            if callers is not None:
                try:
                    frame = _getframe(DEPTH)
                except ValueError:  # nothing of Python called it
                    return self._open_admitted(model_info, args, kwargs)
                if frame.f_code is not callers.plain:
                    method = callers.enclosing(frame, model_info, module)
                    if method is not None:
                        return self._open_method(method, module, args, kwargs)
            return self._open_admitted(model_info, args, kwargs)
        except Exception as error:
            if "_parameters" not in module.__dict__:  # never initialised, as torch itself will say
                guard.let_through(error)
                return None
            guard.caught("begin", error)
            return self.admission.skip(SkipReason.FAULT)

    def _open_method(
        self, method: Method, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Scope | None:
        """The first step of a method that calls parts of its module; the method is the inference."""
        if method.constructs:
            return self.admission.skip(SkipReason.CONSTRUCTION)
        model_info = self.registry.model_info(method.owner)
        if not model_info.recorded:
            return self.admission.skip(model_info.skip_reason or SkipReason.FAULT)
        runtime_device = self.runtime_devices.at(model_info.device)
        window = self.open(
            runtime_device,
            *start_of(method.operation, model_info.name, runtime_device),
            method.operation,
            model_info,
            takes_steps=True,
            cpu_time=asyncio._get_running_loop() is None,
            kind=MethodWindow,
        )
        if not isinstance(window, MethodWindow):
            return window
        try:
            window.follow(method.frame)
            return self._open_step(window, module, args, kwargs)
        except BaseException:
            window.close()
            raise

    def _not_admitted(self, model_info: ModelInfo, *, training: bool) -> Skipped | None:
        reason = SkipReason.TRAINING if training else model_info.skip_reason or SkipReason.FAULT
        if model_info.is_transparent:
            self.admission.pass_through(model_info, reason)
            return None
        self.attribution.forget()
        return self.admission.skip(reason)

    def _open_admitted(
        self, model_info: ModelInfo, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Skipped | Window:
        if model_info.start is None:
            model_info.runtime_device = self.runtime_devices.at(model_info.device)
            model_info.start = start_of("forward", model_info.name, model_info.runtime_device)
        name, attributes = model_info.start
        try:
            seen = inputs.look(args, kwargs, model_info.layout)
        except Exception as error:  # a mapping of the user's may do anything
            guard.caught("input", error)
            seen = None
        cache_call = None
        if model_info.cache_looks or kwargs:
            cache_call = cache_call_of(model_info, args, kwargs)
        scope = self.open(model_info.runtime_device, name, attributes, "forward", model_info, seen)
        if cache_call is not None and isinstance(scope, Window):
            scope.cache_call, scope.cache_observer = cache_call, cache_call.observer
        if self.user_hooks is not None and isinstance(scope, Window):
            try:
                scope.cache_call = self.user_hooks.opened(
                    scope.span, model_info.module(), args, kwargs, cache_call
                )
            except BaseException:
                scope.close()  # a KeyboardInterrupt must not leave the caller inside
                raise
        return scope

    def _open_step(
        self,
        outer: MarkedStep | LoopScope | Window,
        module: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Skipped | StepScope | None:
        # One that was called before is not looked at anew: only the first step identifies its model.
        model_info = outer.model_info
        if model_info is None or model_info.module() is not module:
            model_info = outer.model_info = self.registry.model_info(module)
        if not model_info.recorded:
            return None if model_info.is_transparent else Skipped()
        window, cache_call = outer.window, None
        if model_info.cache_looks or kwargs:
            observer = window.cache_observer
            if observer is None or not observer.knows(kwargs):
                cache_call = cache_call_of(model_info, args, kwargs, window)
        seen = None
        if window.seen is None:
            seen = inputs.look(args, kwargs, _layout(window, model_info))
        step = outer.step(model_info, seen, (module, args, kwargs))
        step.cache_call = cache_call
        return step

    def _capture(
        self, graph: Graph, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Skipped | None:
        """A scope for a module call that is captured and not run; the graph remembers the module.

        The graph's replay is the inference, its capture computes nothing.
        """
        model_info = self.registry.model_info(module)
        if model_info.is_transparent:
            return None
        training = _is_grad_enabled() and is_training(module)
        seen = inputs.look(args, kwargs, model_info.layout)
        graph.called(model_info, seen, training=training)
        return self.admission.skip(SkipReason.GRAPH_CAPTURE)

    def open_named(
        self,
        operation: str,
        model: torch.nn.Module | str | None,
        own_attributes: Mapping[str, Any] | None = None,
    ) -> Skipped | Window:
        """A scope for an inference that the user names; module calls inside are its steps.

        Its span has the user's own attributes from its start, beside ours, which come first.
        """
        try:
            model_info: ModelInfo | str | None = model if isinstance(model, str) else None
            if isinstance(model, torch.nn.Module):
                model_info = self.registry.model_info(model)
                runtime_device = self.runtime_devices.at(model_info.device)
            else:
                runtime_device = self.runtime_devices.current()
            name = model_info.name if isinstance(model_info, ModelInfo) else model_info
            span_name, attributes = start_of(operation, name, runtime_device)
            if own_attributes:
                attributes = {**own_attributes, **attributes}
            outer = self.innermost()
            return self.open(
                runtime_device,
                span_name,
                attributes,
                operation,
                model_info,
                takes_steps=True,
                nested=isinstance(outer, (MarkedStep, LoopScope, StepScope, Window))
                and is_open(outer),
                # In an event loop the thread also works for others while this one waits.
                cpu_time=asyncio._get_running_loop() is None,
            )
        except Exception as error:
            guard.caught("begin", error)
            return self.admission.skip(SkipReason.FAULT)

    def open(
        self,
        runtime_device: RuntimeDevice,
        name: str,
        attributes: dict[str, Any],
        operation: str,
        model: ModelInfo | str | None,
        seen: inputs.Seen | None = None,
        *,
        takes_steps: bool = False,
        nested: bool = False,
        cpu_time: bool = True,
        kind: type[Window] = Window,
    ) -> Skipped | Window:
        """Open an inference; the arguments are those of `Window`, and its span's begin."""
        has_timeline = runtime_device.timeline is not None
        if has_timeline and runtime_device.timeline.capturing:  # type: ignore[union-attr]
            # A capture that Python code did not begin.
            return self.admission.skip(SkipReason.GRAPH_CAPTURE)
        if not _same_process[0]:
            forks.catch_up()
            runtime_device = self.runtime_devices.anew(runtime_device)
        if self._closed.full:
            self._closed.dropped[_QUEUE_FULL] += 1
            self.attribution.forget()
            return Skipped()
        arrived = self.attribution.take() if has_timeline else None
        start_ns, began_ns = clock.wall_ns(), clock.host_ns()
        span = self._spans.start(name, attributes, start_ns)
        if span is None:
            return self.admission.skip(SkipReason.SUPPRESSED)
        window = kind(
            runtime_device,
            span,
            start_ns,
            began_ns,
            self._on_close,
            operation,
            model,
            seen,
            takes_steps=takes_steps,
            nested=nested,
            cpu_time=cpu_time,
        )
        if arrived is not None:
            window.sync_copies = arrived
        try:
            window.begin()
            self._spans.enter(span)
        except BaseException:
            window.close()
            raise
        return window

    def _on_close(self, window: Window) -> None:
        try:
            try:
                self._spans.leave(window.span)
            finally:
                left = leave(window)
            if current.get() is not NO_SCOPE:
                self.innermost()
            if window.runtime_device.timeline is not None:
                self.attribution.ended(window)
            elif left and not window.span[-1]:
                # Freed here, its seven objects are used again by the next call at once. Freed by
                # the finisher, they cost the caller 0.5 µs.
                window.span = self._spans.unrecorded
        except Exception as error:
            guard.caught("end", error)
        self._closed.push(window)

    def innermost(self) -> Any:
        """The scope that the caller is in, now that those are left that ended.

        One may have ended where it could not be left: on another thread, or out of turn.
        """
        scope = current.get()
        if type(scope) is MethodWindow and scope.has_left(self.callers):
            scope.close()
            scope = current.get()
        while not is_open(scope) and leave(scope):
            if isinstance(scope, Window):
                self._spans.leave(scope.span)
            scope = current.get()
        return scope

    def devices(self) -> list[DeviceState]:
        """The devices of this process on which inferences ran."""
        return [runtime_device.state for runtime_device in self.runtime_devices]

    def start_anew(self) -> None:
        """Begin anew in a forked child: what is open is the parent's to end."""
        forks.keep(current.get(), self.runtime_devices)
        disown(current.get(), lambda window: self._spans.leave(window.span))
        current.set(NO_SCOPE)
        self.runtime_devices = self._make_runtime_devices()
        self.registry.forget()
        self.graphs = Graphs()

    def _make_runtime_devices(self) -> RuntimeDevices:
        return RuntimeDevices(
            memory=self.settings.memory,
            pool_size=2 * self.settings.queue_size,
            meter=self._meter,
        )


def _layout(window: HasSteps, step: ModelInfo) -> Layout:
    """The layout of a step's input: what its own contract says, else as that of the whole model."""
    model = window.model
    return step.layout if model is None or step.layout.is_contract else model.layout


def start_of(
    operation: str, model: str | None, runtime_device: RuntimeDevice
) -> tuple[str, dict[str, Any]]:
    """Name and first attributes of a span."""
    name = operation if model is None else f"{operation} {model}"
    return name, start_attributes(operation, model, runtime_device.device)
