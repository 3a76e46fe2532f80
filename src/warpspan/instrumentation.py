"""What is on while warpspan is instrumented: the tracker and its patches. Needs torch."""

from __future__ import annotations

import logging

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from warpspan import __version__
from warpspan.config import Settings
from warpspan.emit.telemetry import Telemetry
from warpspan.hooks import cuda_graph, module_call, peak_memory
from warpspan.hooks.patches import Patches
from warpspan.probes.memory import PeakLedger
from warpspan.tracker import Tracker

_logger = logging.getLogger("warpspan")


class Instrumentation:
    """Patches torch when made; `remove` takes everything back."""

    def __init__(
        self,
        settings: Settings,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        self._telemetry = Telemetry(__version__, tracer_provider, meter_provider)
        self.tracker: Tracker | None = Tracker(settings, self._telemetry)
        completion = self.tracker.completion
        self._telemetry.observe(self.tracker.devices, completion)
        self._patches = Patches()
        self._switch: module_call.Switch | None = None
        try:
            self._switch = module_call.patch(self._patches, self.tracker)
            cuda_graph.patch(self._patches)
            if settings.memory:
                peak_memory.patch(self._patches, self._ledger)
        except BaseException:  # this torch lacks something: all or nothing
            self.remove()
            raise

    def remove(self) -> None:
        """Put torch back as it was, finish what is in flight and stop."""
        tracker, self.tracker = self.tracker, None
        if self._switch is not None:
            self._switch.tracker = None
        for name in self._patches.restore():
            _logger.info("%s stays, switched off: somebody else patched over it", name)
        if tracker is not None:
            tracker.stop()
        self._telemetry.close()

    def _ledger(self, ordinal: int) -> PeakLedger | None:
        return None if self.tracker is None else self.tracker.places.ledger(ordinal)
