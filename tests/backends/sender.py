"""Sends spans by OTLP and knows which of them were accepted."""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult, SpanProcessor


class _Kept(SpanProcessor):
    def __init__(self):
        self.spans = []

    def on_end(self, span):
        self.spans.append(span)


class Sender:
    """A client that repeats a batch for some seconds, as clients do, and keeps book of the answers.

    Args:
        endpoint: of OTLP/gRPC, without a scheme.
        service: service.name of what it sends.
    """

    def __init__(self, endpoint: str, service: str) -> None:
        self.service = service
        self._kept = _Kept()
        self._latest: list[ReadableSpan] = []
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(self._kept)
        self._tracer = self._provider.get_tracer("sender")
        self._exporter: SpanExporter = OTLPSpanExporter(endpoint, insecure=True, timeout=5)
        #: Span ids by the trace id, of what was accepted; and of what was refused.
        self.accepted: dict[str, set[str]] = {}
        self.refused: dict[str, set[str]] = {}

    def send(self, traces: int, attributes: dict[str, object] | None = None) -> bool:
        """Send one batch of traces of two spans each; whether it was accepted."""
        for number in range(traces):
            with (
                self._tracer.start_as_current_span("request", attributes={"number": number}),
                self._tracer.start_as_current_span("forward Model", attributes=attributes),
            ):
                pass
        spans, self._kept.spans = self._kept.spans, []
        self._latest = spans
        good = self._exporter.export(spans) is SpanExportResult.SUCCESS
        book = self.accepted if good else self.refused
        for span in spans:
            book.setdefault(f"{span.context.trace_id:032x}", set()).add(
                f"{span.context.span_id:016x}"
            )
        return good

    def send_again(self) -> bool:
        """Send the latest batch once more, as after an answer that was lost."""
        return self._exporter.export(self._latest) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()
        self._provider.shutdown()
