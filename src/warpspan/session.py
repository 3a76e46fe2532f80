"""What is on while warpspan is instrumented: the tracker and its patches. Needs torch."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from warpspan import __version__
from warpspan.config import Settings, environment, has_dcgm_exporter
from warpspan.emit.emitter import Emitter
from warpspan.hooks.libraries import registry
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch import cuda_graph, module_call, peak_memory, syncs, transfers
from warpspan.hooks.torch.initialization import WhenInitialized
from warpspan.probes.memory import PeakLedger
from warpspan.probes.runtime_device import Meter, RuntimeDevice
from warpspan.records import DeviceUsage
from warpspan.runtime.tracker import Tracker

if TYPE_CHECKING:
    from warpspan.device.sampler import Sampler

_logger = logging.getLogger("warpspan")


class Session:
    """Patches torch when made; `remove` takes everything back."""

    def __init__(
        self,
        settings: Settings,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        self._telemetry = Emitter(
            __version__, tracer_provider, meter_provider, steps=settings.steps
        )
        self._settings = settings
        self._sampler: Sampler | None = None
        self.tracker: Tracker | None = Tracker(settings, self._telemetry, self._meter)
        self._telemetry.observe(
            self.tracker.devices,
            self.tracker.finisher,
            self._usage,
            self.tracker.caches,
            hardware=settings.hardware_metrics == "on"
            or (settings.hardware_metrics == "auto" and not has_dcgm_exporter(environment())),
        )
        self._patches = Patches()
        self._switch: module_call.Switch | None = None
        self._initialized: WhenInitialized | None = None
        try:
            self._switch = module_call.patch(self._patches, self.tracker)
            cuda_graph.patch(self._patches, self._switch)
            if settings.memory:
                peak_memory.patch(self._patches, self._ledger)
            registry.patch(self._patches, self._switch)
            if settings.transfers:
                syncs.patch(self._patches, self._switch)
                self._initialized = WhenInitialized(self._patch_tensors)
        except BaseException:  # this torch lacks something: all or nothing
            self.remove()
            raise

    def remove(self) -> None:
        """Put torch back as it was, finish what is in flight and stop."""
        tracker, self.tracker = self.tracker, None
        if self._initialized is not None:
            self._initialized.cancel()
        if self._switch is not None:
            self._switch.tracker = None
        for name in self._patches.restore():
            _logger.info("%s stays, switched off: somebody else patched over it", name)
        if tracker is not None:
            tracker.stop()
        if self._sampler is not None:
            self._sampler.stop()
        self._telemetry.close()

    def _patch_tensors(self) -> None:
        if self._switch is not None:
            syncs.patch_tensors(self._patches, self._switch)
            transfers.patch_tensors(self._patches, self._switch)

    def _meter(self, runtime_device: RuntimeDevice) -> Meter | None:
        """The meter of a CUDA device that an inference runs on. The first one starts a sampler."""
        if not self._settings.sample_period_s or torch.version.hip is not None:
            return None
        # Imported late: without a GPU nothing of it is loaded.
        from warpspan.device.sampler import Sampler

        if self._sampler is None:
            self._sampler = Sampler(self._settings.sample_period_s, environment())
        return self._sampler.attach(runtime_device)

    def _usage(self) -> list[DeviceUsage]:
        return [] if self._sampler is None else [meter.state for meter in self._sampler]

    def _ledger(self, ordinal: int) -> PeakLedger | None:
        return None if self.tracker is None else self.tracker.runtime_devices.ledger(ordinal)
