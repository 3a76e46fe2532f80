"""One instrumented torch: which parts exist and how they are joined. Imports torch.

The caller's thread runs hooks and tracker; closed windows go to the finisher, whose pipeline makes
records of them; the stream hands each record to its subscribers.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

import torch
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from warpspan import __version__, forks
from warpspan.config import Settings, environment, has_dcgm_exporter
from warpspan.deep.captures import Captures
from warpspan.deep.contributor import CaptureFigures
from warpspan.deep.kineto_source import KinetoSource
from warpspan.deep.on_signal import OnSignal
from warpspan.deep.other_profilers import UserProfilers
from warpspan.deep.schedule import BURST, Schedule
from warpspan.emit.emitter import Emitter
from warpspan.emit.status import Publisher
from warpspan.finish.finisher import Finisher
from warpspan.finish.kv_leaks import KvLeaks
from warpspan.finish.pipeline import Pipeline, contributors
from warpspan.finish.stream import RecordStream
from warpspan.hooks.libraries import registry
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch import (
    cuda_graph,
    module_call,
    peak_memory,
    syncs,
    trace_check,
    transfers,
)
from warpspan.hooks.torch.initialization import WhenInitialized
from warpspan.probes import clock, garbage
from warpspan.probes.memory import PeakLedger
from warpspan.probes.runtime_device import RuntimeDevice, UsageMeter
from warpspan.probes.transfers import is_waiting
from warpspan.records import CacheState, DeviceUsage, HardwareMode
from warpspan.runtime.tracker import Tracker
from warpspan.runtime.user_hooks import UserHooks

if TYPE_CHECKING:
    from warpspan.device.sampler import Sampler

_logger = logging.getLogger("warpspan")

_FORK_WAIT_S = 1.0


class Session:
    """Patches torch when made; `remove` takes everything back.

    Args:
        settings: what the user chose.
        tracer_provider: where spans go, the global one by default.
        meter_provider: where metrics go, likewise.
        user_hooks: what the user wants to be called for each inference, None for nothing.

    Attributes:
        captures: inferences under a profiler.
        tracker: the caller's side.
        finisher: the finisher's side.
        stream: what was measured, as it comes.
    """

    def __init__(
        self,
        settings: Settings,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        user_hooks: UserHooks | None = None,
    ) -> None:
        self._settings = settings
        self._sampler: Sampler | None = None
        self._status = Publisher(
            environment(), lambda: self._sampler or (), lambda: self._emitter.service_name()
        )
        self._emitter = Emitter(__version__, tracer_provider, meter_provider, steps=settings.steps)
        self.stream = RecordStream(
            {
                "metrics": self._emitter.record_metrics,
                "span": self._emitter.end_span,
                "status": self._status.add,
            }
        )
        dropped: Counter[str] = Counter()
        self._kv_leaks = KvLeaks(dropped)
        self._profilers = UserProfilers(lambda: self.captures.stop_now())
        self.captures = Captures(
            KinetoSource(self._profilers, environment(), operators=settings.deep_operators),
            lambda function: self.finisher.look(function),
            lambda: not any(device.open for device in self.tracker.runtime_devices),
            self._emitter.ids,
            settings.deep_directory,
        )
        figures = CaptureFigures(self.captures, self._schedule())
        self.finisher = Finisher(
            Pipeline(
                contributors(settings, self._kv_leaks, figures), self.stream, self._emitter.ids
            ),
            settings.queue_size,
            settings.flush_timeout_s,
            self._hurry,
            is_waiting,
            dropped,
        )
        self.tracker = Tracker(settings, self._emitter, self.finisher, self._meter, user_hooks)
        self._emitter.observe(
            self.tracker.devices,
            self.finisher,
            self._usage,
            self._caches,
            self.skipped,
            hardware=settings.hardware_metrics == HardwareMode.ON
            or (
                settings.hardware_metrics == HardwareMode.AUTO
                and not has_dcgm_exporter(environment())
            ),
        )
        garbage.watch()
        forks.join(
            before=self._pause,
            in_parent=self.finisher.resume,
            in_child=self._start_anew,
            at_exit=self._drain,
            at_child_exit=self._flush_at_child_exit,
        )
        self._patches = Patches()
        self._switch: module_call.Switch | None = None
        self._initialized: WhenInitialized | None = None
        self._on_signal: OnSignal | None = None
        try:
            self._patch()
        except BaseException:  # this torch lacks something: all or nothing
            self.remove()
            raise
        self._begin_captures()

    def finish(self) -> None:
        """Finish what was closed so far, as far as the setting for the end of a process allows."""
        self.finisher.flush(self._settings.flush_timeout_s)

    def skipped(self) -> dict[str, int]:
        """Calls so far that were no inferences, by reason."""
        return {reason: count for reason, count in self.tracker.admission.skipped.items() if count}

    def flush(self, timeout_s: float) -> bool:
        """Finish what was closed so far and hand it to the exporters; False where time ran out."""
        forks.check()
        deadline = time.monotonic() + timeout_s
        finished = self.finisher.flush(timeout_s)
        return self._emitter.flush(max(0.0, deadline - time.monotonic())) and finished

    def remove(self) -> None:
        """Put torch back as it was, finish what is in flight and stop.

        Windows that are open end without a record.
        """
        if self._initialized is not None:
            self._initialized.cancel()
        if self._switch is not None:
            self._switch.tracker = None
        for name in self._patches.restore():
            _logger.info("%s stays as a no-op: another library patched over it", name)
        if self._on_signal is not None:
            self._on_signal.remove()
        self.finisher.stop()
        self.captures.stop(self._settings.flush_timeout_s)
        garbage.unwatch()
        if self._sampler is not None:
            self._sampler.stop()
        self._status.close()
        self._emitter.close()

    def _patch(self) -> None:
        patches, settings = self._patches, self._settings
        switch = self._switch = module_call.patch(patches, self.tracker)
        cuda_graph.patch(patches, switch)
        trace_check.patch(patches, switch)
        if settings.memory:
            peak_memory.patch(patches, self._ledger)
        registry.patch(patches, switch, settings.entry_points)
        self._profilers.patch(patches)
        if settings.transfers:
            syncs.patch(patches, switch)
            self._initialized = WhenInitialized(self._patch_tensors)

    def _patch_tensors(self) -> None:
        if self._switch is not None:
            syncs.patch_tensors(self._patches, self._switch)
            transfers.patch_tensors(self._patches, self._switch)

    def _meter(self, runtime_device: RuntimeDevice) -> UsageMeter | None:
        """The meter of a CUDA device that an inference runs on. The first one starts a sampler."""
        if not self._settings.sample_period_s or torch.version.hip is not None:
            return None
        # Imported late: without a GPU nothing of it is loaded.
        from warpspan.device.sampler import Sampler

        if self._sampler is None:
            self._sampler = Sampler(
                self._settings.sample_period_s,
                environment(),
                self.stream.sample,
                tick=self._status.tick,
            )
        return self._sampler.attach(runtime_device)

    def _schedule(self) -> Schedule | None:
        deep = self._settings.deep
        return None if deep is None or deep.at_begin else Schedule(deep, clock.host_ns())

    def _begin_captures(self) -> None:
        """Wait for the signal that asks for one, and make that of the first inferences."""
        deep, number = self._settings.deep, self._settings.deep_signal
        if number is not None:
            self._on_signal = OnSignal(number, lambda: self.captures.request(BURST))
        if deep is not None and deep.burst is not None and deep.at_begin:
            # Counted without the driver, which a process that forks later must not have started.
            has_gpu = torch.cuda.device_count() > 0
            self.captures.request_first(
                deep.burst,
                lambda: (
                    not has_gpu
                    or torch.cuda.is_initialized()
                    or any(True for _ in self.tracker.runtime_devices)
                ),
            )

    def _hurry(self) -> None:
        self.captures.hurry()
        for runtime_device in self.tracker.runtime_devices:
            if runtime_device.meter is not None:
                runtime_device.meter.hurry()

    def _ledger(self, ordinal: int) -> PeakLedger | None:
        return self.tracker.runtime_devices.ledger(ordinal)

    def _usage(self) -> list[DeviceUsage]:
        return [] if self._sampler is None else [meter.state for meter in self._sampler]

    def _caches(self) -> list[CacheState]:
        """The KV caches of this process that inferences took or left."""
        return self._kv_leaks.states(caught_up=not self.finisher.waiting)

    def _start_anew(self) -> None:
        """Begin anew in a forked child: what waits and what is open is the parent's."""
        self.tracker.start_anew()
        self.finisher.start_anew()
        self.captures.start_anew()
        self._kv_leaks.reset()
        self._status.reset()

    def _pause(self) -> None:
        self.captures.pause(_FORK_WAIT_S)
        self.finisher.pause()

    def _drain(self) -> None:
        self.finisher.drain()
        self.captures.stop(self._settings.flush_timeout_s)

    def _flush_at_child_exit(self) -> None:
        self.flush(self._settings.flush_timeout_s)
