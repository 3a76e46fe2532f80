"""The sink of the tracker: spans and metrics together, on the providers of the user's choice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry import metrics, trace

from warpspan import guard
from warpspan.emit.metrics import Metrics
from warpspan.emit.spans import OpenSpan, Spans
from warpspan.records import DeviceState, Inference

_SCOPE = "warpspan"


class Telemetry:
    """Emits through the given providers, or the global ones, also where those are set later."""

    def __init__(
        self,
        version: str,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._providers = (tracer_provider, meter_provider)
        self._spans = Spans(trace.get_tracer(_SCOPE, version, tracer_provider))
        self._meter = metrics.get_meter(_SCOPE, version, meter_provider)
        self._metrics: Metrics | None = None
        # What the caller's thread calls for each inference, without a frame of its own.
        self.start = self._spans.start
        self.leave = self._spans.leave

    def observe(
        self, devices: Callable[[], Iterable[DeviceState]], dropped: Mapping[str, int]
    ) -> None:
        """Create the metrics, those that are asked for included."""
        self._metrics = Metrics(self._meter, devices, dropped)

    def is_recording(self, opened: OpenSpan) -> bool:
        """Whether the span is kept by a provider."""
        return opened.span.is_recording()

    def finish(self, opened: OpenSpan, record: Inference) -> None:
        """Record the metrics and end the span; a failure of one does not cost the other."""
        try:
            if self._metrics is not None:
                self._metrics.record(record, opened.context)
        except Exception as error:
            guard.caught("metrics", error)
        self._spans.finish(opened, record)

    def flush(self, timeout_s: float) -> bool:
        """Have the providers export what they hold; False where one could not in time."""
        deadline = time.monotonic() + timeout_s
        tracer_provider, meter_provider = self._providers
        flushed = True
        for provider in (
            tracer_provider or trace.get_tracer_provider(),
            meter_provider or metrics.get_meter_provider(),
        ):
            flush: Any = getattr(provider, "force_flush", None)  # the API's own has none
            if flush is None:
                continue
            left_ms = max(1, round((deadline - time.monotonic()) * 1e3))
            try:
                flushed = flush(left_ms) is not False and flushed
            except Exception as error:
                guard.caught("flush", error)
                flushed = False
        return flushed
