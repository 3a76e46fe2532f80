"""Decides what is an inference, opens windows, and turns closed ones into records."""

from __future__ import annotations

import asyncio
import fnmatch
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from warpspan import forks, guard
from warpspan.config import Settings
from warpspan.finish.finisher import Finisher
from warpspan.finish.kv_leaks import Ledger
from warpspan.probes import clock, garbage, inputs
from warpspan.probes.graphs import Graphs
from warpspan.probes.kv_observer import cache_call_of
from warpspan.probes.memory import process_rss_bytes
from warpspan.probes.model import ModelInfo, ModelRegistry, is_training
from warpspan.probes.runtime_device import Meter, RuntimeDevice, RuntimeDevices
from warpspan.probes.transfers import is_waiting
from warpspan.records import CacheState, DeviceState, start_attributes
from warpspan.runtime import transfer_attribution
from warpspan.runtime.scopes import NO_SCOPE, Skipped, current, is_open, leave
from warpspan.runtime.steps import LoopScope, MarkedStep, StepScope
from warpspan.runtime.window import Sink, Window, disown

Scope: TypeAlias = Skipped | StepScope | Window

# One reading of /proc serves all inferences that are finished within this time.
_RSS_AGE_NS = 50_000_000

# Bound once: each is asked for every outermost call.
_tracing_state = torch._C._get_tracing_state
_graph_task_id = torch._C._current_graph_task_id
_dispatch_mode = torch._C._get_dispatch_mode
_is_compiling = torch.compiler.is_compiling
_is_grad_enabled = torch.is_grad_enabled
_FAKE = torch._C._TorchDispatchModeKey.FAKE
_same_process = forks.mark


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
        meter: Callable[[RuntimeDevice], Meter | None] | None = None,
    ) -> None:
        self.settings = settings
        self._meter = meter
        self.sink = sink
        self.attribution = transfer_attribution.TransferAttribution(sink)
        self.registry = ModelRegistry(self._is_recorded)
        self.graphs = Graphs()
        self.finisher = Finisher(
            self._finish,
            settings.queue_size,
            settings.flush_timeout_s,
            self._hurry,
            is_waiting,
        )
        self.runtime_devices = self._make_runtime_devices()
        self.ledger = Ledger(self.finisher.dropped)
        self._rss_bytes: int | None = None
        self._rss_due_ns = 0
        self._freezer = garbage.Freezer() if settings.gc_freeze else None
        garbage.watch()
        forks.join(
            before=self.finisher.pause,
            in_parent=self.finisher.resume,
            in_child=self._start_anew,
            at_exit=self.finisher.drain,
            at_child_exit=self._flush_at_child_exit,
        )

    def open_call(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Scope | None:
        """A scope for a module call that nothing open covers; None where nothing is run.

        An error of ours leaves the call unrecorded.
        """
        try:
            outer = current.get()
            if outer.repeated is module and not self.graphs.open and outer.repeat.open(kwargs):
                return outer.repeat  # type: ignore[no-any-return]
            if (
                _tracing_state() is not None  # torch.jit.trace
                or _is_compiling()  # torch.export
                or _graph_task_id() != -1  # checkpoint recompute in a backward
                or "_is_replica" in module.__dict__  # DataParallel: its threads have no context
                or _dispatch_mode(_FAKE) is not None
            ):
                return None
            if self.graphs.open and self._capture(module, args, kwargs):
                return (
                    Skipped()
                )  # the graph's replay is the inference, its capture computes nothing
            if outer is not NO_SCOPE:
                if not outer.takes_steps:
                    outer = self._settle()
                if outer.takes_steps:
                    return self._open_step(outer, module, args, kwargs)
            if _is_grad_enabled() and not self.settings.training and is_training(module):
                self.attribution.forget()
                return Skipped()
            model_info = self.registry.model_info(module)
            if not model_info.recorded:
                if model_info.has_state:  # else it may prepare the input of one that is recorded
                    self.attribution.forget()
                return Skipped()
            if model_info.start is None:
                model_info.runtime_device = self.runtime_devices.at(model_info.device)
                model_info.start = start_of("forward", model_info.name, model_info.runtime_device)
            name, attributes = model_info.start
            try:
                seen = inputs.look(args, kwargs)
            except Exception as error:  # a mapping of the user's may do anything
                guard.caught("input", error)
                seen = None
            use = (
                cache_call_of(model_info, args, kwargs)
                if model_info.cache_looks or kwargs
                else None
            )
            scope = self._open(
                model_info.runtime_device, name, attributes, "forward", model_info, seen
            )
            if use is not None and isinstance(scope, Window):
                scope.use, scope.caches = use, use.observer
        except Exception as error:
            guard.caught("begin", error)
            return Skipped()
        else:
            return scope

    def _open_step(
        self,
        outer: MarkedStep | LoopScope | Window,
        module: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Scope:
        # One that was called before is not looked at anew: only the first step tells its model.
        model_info = outer.model_info
        if model_info is None or model_info.module() is not module:
            model_info = outer.model_info = self.registry.model_info(module)
        if not model_info.recorded:
            return Skipped()
        window, use = outer.window, None
        if model_info.cache_looks or kwargs:
            caches = window.caches
            if caches is None or not caches.knows(kwargs):
                use = cache_call_of(model_info, args, kwargs, window)
        seen = inputs.look(args, kwargs) if window.seen is None else None
        step = outer.step(model_info, seen, (module, args, kwargs))
        step.use = use
        return step

    def _capture(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bool:
        """Whether a module call is captured and not run; the graph then remembers the module."""
        graph = self.graphs.here()
        if graph is None:
            return False
        graph.called(
            self.registry.model_info(module),
            inputs.look(args, kwargs),
            training=_is_grad_enabled() and is_training(module),
        )
        return True

    def open_replay(self, graph: Any) -> Scope | None:
        """A scope for a graph's replay that nothing open covers; None where it is no inference.

        Backward passes that `make_graphed_callables` captured replay inside autograd.
        """
        try:
            if _graph_task_id() != -1:
                return None
            known = self.graphs.of(graph)
            if known.excluded or (known.training and not self.settings.training):
                return None
            model = known.model
            if known.start is None:
                runtime_device = (
                    self.runtime_devices.at(known.device)
                    if known.device
                    else self.runtime_devices.current()
                )
                name = None if model is None else model.name
                known.start = runtime_device, *start_of("graph_replay", name, runtime_device)
            runtime_device, name, attributes = known.start
            if current.get() is not NO_SCOPE:
                outer = self._settle()
                if outer.takes_steps:
                    capturing = (
                        runtime_device.timeline is not None and runtime_device.timeline.capturing
                    )
                    return None if capturing else outer.step(model, known.seen)
            return self._open(runtime_device, name, attributes, "graph_replay", model, known.seen)
        except Exception as error:
            guard.caught("begin", error)
            return None

    def open_named(self, operation: str, model: torch.nn.Module | str | None) -> Skipped | Window:
        """A scope for an inference that the user names; module calls inside are its steps."""
        try:
            model_info: ModelInfo | str | None = model if isinstance(model, str) else None
            if isinstance(model, torch.nn.Module):
                model_info = self.registry.model_info(model)
                runtime_device = self.runtime_devices.at(model_info.device)
            else:
                runtime_device = self.runtime_devices.current()
            name = model_info.name if isinstance(model_info, ModelInfo) else model_info
            outer = self._settle()
            return self._open(
                runtime_device,
                *start_of(operation, name, runtime_device),
                operation,
                model_info,
                None,
                True,  # takes steps
                isinstance(outer, (MarkedStep, LoopScope, StepScope, Window)) and is_open(outer),
                # In an event loop the thread also works for others while this one waits.
                asyncio._get_running_loop() is None,
            )
        except Exception as error:
            guard.caught("begin", error)
            return Skipped()

    def devices(self) -> list[DeviceState]:
        """The devices of this process on which inferences ran."""
        return [runtime_device.state for runtime_device in self.runtime_devices]

    def caches(self) -> list[CacheState]:
        """The KV caches of this process that inferences took or left."""
        return self.ledger.states(caught_up=not self.finisher.waiting)

    def flush(self, timeout_s: float) -> bool:
        """Finish what was closed so far and hand it to the exporters; False where time ran out."""
        forks.check()
        deadline = time.monotonic() + timeout_s
        finished = self.finisher.flush(timeout_s)
        return self.sink.flush(max(0.0, deadline - time.monotonic())) and finished

    def stop(self) -> None:
        """Finish what is in flight and end the finisher. Open windows end without a record."""
        self.finisher.stop()
        garbage.unwatch()

    def _open(
        self,
        runtime_device: RuntimeDevice,
        name: str,
        attributes: dict[str, Any],
        operation: str,
        model: ModelInfo | str | None,
        seen: inputs.Seen | None = None,
        takes_steps: bool = False,
        nested: bool = False,
        cpu_time: bool = True,
    ) -> Skipped | Window:
        if runtime_device.timeline is not None and runtime_device.timeline.capturing:
            return Skipped()  # a capture that Python code did not begin
        if not _same_process[0]:
            forks.catch_up()
            runtime_device = self.runtime_devices.anew(runtime_device)
        finisher = self.finisher
        if finisher.full:
            finisher.dropped["queue_full"] += 1
            self.attribution.forget()
            return Skipped()
        arrived = None if runtime_device.timeline is None else self.attribution.take()
        start_ns, began_ns = clock.wall_ns(), clock.host_ns()
        span = self.sink.start(name, attributes, start_ns)
        if span is None:
            return Skipped()
        window = Window(
            runtime_device,
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
        if arrived is not None:
            window.noted = arrived
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
            if current.get() is not NO_SCOPE:
                self._settle()
            if window.runtime_device.timeline is not None:
                self.attribution.ended(window)
        except Exception as error:
            guard.caught("end", error)
        self.finisher.push(window)

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
        record = window.settle_caches(self.ledger, record)
        self.sink.finish(window.span, record)
        if self._freezer is not None and window.model is not None:
            self._freezer.finished(window.model)

    def _is_recorded(self, model_info: ModelInfo) -> bool:
        kind = model_info.device.type
        if kind == "meta" or (kind == "cuda" and not torch.cuda.is_initialized()):
            return False  # shapes only: meta and fake tensors
        if model_info.exports:
            return False
        if any(
            fnmatch.fnmatchcase(model_info.name, name) for name in self.settings.excluded_models
        ):
            return False
        return model_info.has_state or self.settings.parameterless

    def _make_runtime_devices(self) -> RuntimeDevices:
        return RuntimeDevices(
            memory=self.settings.memory,
            pool_size=2 * self.settings.queue_size,
            meter=self._meter,
        )

    def _hurry(self) -> None:
        for runtime_device in self.runtime_devices:
            if runtime_device.meter is not None:
                runtime_device.meter.hurry()

    def _start_anew(self) -> None:
        disown(current.get(), lambda window: self.sink.leave(window.span))
        current.set(NO_SCOPE)
        self.finisher.reset()
        self.runtime_devices = self._make_runtime_devices()
        self.ledger = Ledger(self.finisher.dropped)
        self.registry.forget()
        self.graphs = Graphs()

    def _flush_at_child_exit(self) -> None:
        self.flush(self.settings.flush_timeout_s)


def is_traced() -> bool:
    """Whether what is called now only builds a graph: jit.trace, torch.export, fake tensors."""
    return _tracing_state() is not None or _is_compiling() or _dispatch_mode(_FAKE) is not None


def start_of(
    operation: str, model: str | None, runtime_device: RuntimeDevice
) -> tuple[str, dict[str, Any]]:
    """Name and first attributes of a span."""
    name = operation if model is None else f"{operation} {model}"
    return name, start_attributes(operation, model, runtime_device.device)
