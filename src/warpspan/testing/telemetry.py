"""Spans and metrics of an instrumented program, kept in memory."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import warpspan
from warpspan.records import DETAILS_EVENT, PROFILE_EVENT, Inference
from warpspan.signals import names
from warpspan.testing.machine import activated

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import DataPointT
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.sampling import Sampler
    from typing_extensions import Self

_FLUSH_TIMEOUT_S = 30.0


class InMemoryTelemetry:
    """Instruments warpspan inside its `with` block, with providers of its own.

    Args:
        sampler: decides which spans are recorded, all by default.
        **settings: what `WarpspanInstrumentor().instrument()` takes, the providers aside.

    Attributes:
        tracer_provider: where the spans come from; also for spans of the test's own.
        meter_provider: where the metrics come from.

    Raises:
        ImportError: the OpenTelemetry SDK is not installed.
    """

    def __init__(self, *, sampler: Sampler | None = None, **settings: Any) -> None:
        try:
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import InMemoryMetricReader
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import SimpleSpanProcessor
            from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        except ImportError as error:
            raise ImportError(
                "InMemoryTelemetry needs the OpenTelemetry SDK: pip install opentelemetry-sdk"
            ) from error
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(sampler=sampler)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader])
        self._settings = settings

    def __enter__(self) -> Self:
        """Instrument.

        Raises:
            RuntimeError: warpspan is instrumented already, with other providers.
        """
        instrumentor = warpspan.WarpspanInstrumentor()
        if instrumentor.is_instrumented_by_opentelemetry:
            raise RuntimeError("warpspan is instrumented already: uninstrument it first")
        settings = dict(self._settings)
        if activated() is not None:
            settings.setdefault("sample_period_s", 0.0)  # a scripted device has no driver to ask
        instrumentor.instrument(
            tracer_provider=self.tracer_provider,
            meter_provider=self.meter_provider,
            **settings,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        warpspan.WarpspanInstrumentor().uninstrument()
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()

    def spans(self) -> list[ReadableSpan]:
        """The spans that ended so far, in the order of their start.

        A scripted device is let work off what it holds first: its events complete only when its
        clock is moved, and nobody else moves it.

        Raises:
            TimeoutError: some inference was not finished within 30 seconds.
        """
        self._flush()
        spans = self._exporter.get_finished_spans()
        return sorted(spans, key=lambda span: span.start_time or 0)

    def records(self) -> list[Inference]:
        """The inferences among the spans, in the order of their start."""
        return [
            Inference.from_attributes(
                _attributes(span),
                start_ns=span.start_time or 0,
                duration_s=((span.end_time or 0) - (span.start_time or 0)) / 1e9,
                trace_id=f"{span.context.trace_id:032x}",
                span_id=f"{span.context.span_id:016x}",
                parent_span_id=f"{span.parent.span_id:016x}" if span.parent else "",
            )
            for span in self.spans()
            if names.PYTORCH_OPERATION_NAME in (span.attributes or {})
        ]

    def metrics(self) -> dict[str, list[DataPointT]]:
        """The data points recorded so far, by the name of their metric.

        Raises:
            TimeoutError: some inference was not finished within 30 seconds.
        """
        self._flush()
        data = self._reader.get_metrics_data()
        points: dict[str, list[DataPointT]] = {}
        for resource in data.resource_metrics if data is not None else []:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points.setdefault(metric.name, []).extend(metric.data.data_points)
        return points

    def _flush(self) -> None:
        machine = activated()
        if machine is not None:
            machine.complete()
        if not warpspan.flush(_FLUSH_TIMEOUT_S):
            raise TimeoutError(
                f"some inference was not finished within {_FLUSH_TIMEOUT_S} s: is its device "
                "waiting for a clock that stands still?"
            )


def _attributes(span: ReadableSpan) -> dict[str, Any]:
    """Those of a span and of its events that carry attributes of ours."""
    attributes: dict[str, Any] = dict(span.attributes or {})
    for event in span.events:
        if event.name in (DETAILS_EVENT, PROFILE_EVENT):
            attributes |= event.attributes or {}
    return attributes
