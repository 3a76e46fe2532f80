"""The sink of the tracker: spans and metrics together, on the providers of the user's choice."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry import metrics, trace

from warpspan import guard
from warpspan.emit.observable_table import Finisher, Observables, Sources
from warpspan.emit.recorder import Recorder
from warpspan.emit.spans import UNRECORDED, OpenSpan, Spans
from warpspan.records import CacheState, DeviceState, DeviceUsage, Inference, StepMode

_SCOPE = "warpspan"

# A provider gets so much longer than a flush waits for it, so that it never raises in time because
# its time is up: it counts whole milliseconds, and by the system's clock.
_PROVIDER_MARGIN_S = 0.1


class Emitter:
    """Emits through the given providers, or the global ones, also where those are set later."""

    def __init__(
        self,
        version: str,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        steps: str = StepMode.SUMMARY,
    ) -> None:
        self._providers = (tracer_provider, meter_provider)
        self._spans = Spans(trace.get_tracer(_SCOPE, version, tracer_provider), steps)
        self._meter = metrics.get_meter(_SCOPE, version, meter_provider)
        self._recorder = Recorder(self._meter)
        self._observables: Observables | None = None
        self.unrecorded = UNRECORDED
        # What the caller's thread calls for each inference, without a frame of its own.
        self.start = self._spans.start
        self.enter = self._spans.enter
        self.leave = self._spans.leave
        self.request = self._spans.request
        self.ids = self._spans.ids
        # Ends the span of a finished inference. Raises what a span processor raises.
        self.end_span = self._spans.finish

    def observe(
        self,
        devices: Callable[[], Iterable[DeviceState]],
        finisher: Finisher,
        usage: Callable[[], Iterable[DeviceUsage]],
        caches: Callable[[], Iterable[CacheState]],
        skipped: Callable[[], Mapping[str, int]],
        *,
        hardware: bool,
    ) -> None:
        """Create the metrics that are asked for, and ask these (see `Sources`) until `close`."""
        sources = Sources(devices, finisher, usage, caches, skipped, self._recorder.kept, hardware)
        self._observables = Observables(self._meter, sources)

    def service_name(self) -> str | None:
        """`service.name` of the spans' resource, None where the program set none."""
        provider: Any = self._providers[0] or trace.get_tracer_provider()
        resource = getattr(provider, "resource", None)  # the API's own has none
        name = None if resource is None else resource.attributes.get("service.name")
        return None if not name or name.startswith("unknown_service") else str(name)

    def close(self) -> None:
        """Observe nothing any more. What is in flight can still be finished."""
        if self._observables is not None:
            self._observables.close()

    def record_metrics(self, opened: OpenSpan, record: Inference) -> None:
        """Record the metrics of a finished inference, with exemplars of its span. Never raises."""
        try:
            self._recorder.record(record, opened[1])
        except Exception as error:
            guard.caught("metrics", error)

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
            flushed = _flush_in_time(flush, max(0.001, deadline - time.monotonic())) and flushed
        return flushed


def private_provider() -> trace.TracerProvider | None:
    """A provider that records spans and exports none; None where the program has set one."""
    # Imported late: instrumenting needs the API alone.
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.get_empty(), shutdown_on_exit=False
        )
    return None


def _flush_in_time(flush: Callable[[int], Any], timeout_s: float) -> bool:
    """Whether a provider flushed in time.

    On a thread of its own, because the SDK's batch processors wait for their exporter however
    long it takes. What that thread meets after its time is nobody's fault.
    """
    deadline = time.monotonic() + timeout_s
    flushed: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def run() -> None:
        guard.on_own_thread()
        try:
            flushed.put(flush(round((timeout_s + _PROVIDER_MARGIN_S) * 1e3)) is not False)
        except Exception as error:
            if time.monotonic() < deadline:
                guard.caught("flush", error)
            flushed.put(False)

    try:
        threading.Thread(target=run, name="warpspan-flush", daemon=True).start()
        return flushed.get(timeout=timeout_s)
    except queue.Empty:
        return False
    except RuntimeError as error:  # no more threads
        guard.caught("flush", error)
        return False
