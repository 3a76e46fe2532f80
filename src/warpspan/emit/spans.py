"""The span of an inference: started and made current by the caller, ended by the finisher."""

from __future__ import annotations

from typing import Any, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from warpspan.records import Inference

# Instrumentations honour both: the key of the SDK's exporters and its older plain form.
_SUPPRESSED = otel_context._SUPPRESS_INSTRUMENTATION_KEY
_SUPPRESSED_PLAIN = "suppress_instrumentation"


class OpenSpan(NamedTuple):
    """A span that is current on the caller's thread.

    Args:
        span: the span, recording or not.
        context: the context in which it is current; metrics recorded in it get exemplars.
        token: what puts the former context back.
    """

    span: Span
    context: otel_context.Context
    token: Any


class Spans:
    """Starts and ends the spans of inferences."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start(self, name: str, attributes: dict[str, Any], start_ns: int) -> OpenSpan | None:
        """Start a span and make it current; None where instrumentation is suppressed."""
        outer = otel_context.get_current()
        if outer.get(_SUPPRESSED) or outer.get(_SUPPRESSED_PLAIN):
            return None
        span = self._tracer.start_span(name, outer, SpanKind.INTERNAL, attributes, None, start_ns)
        inner = trace.set_span_in_context(span, outer)
        return OpenSpan(span, inner, otel_context.attach(inner))

    def leave(self, opened: OpenSpan) -> None:
        """Make current what was before."""
        # A generator may be resumed, and its span left, in another context: nothing of ours is
        # current there, and OpenTelemetry would log an error with a traceback.
        if otel_context.get_current() is opened.context:
            otel_context.detach(opened.token)

    def finish(self, opened: OpenSpan, record: Inference) -> None:
        """Set what is known by now and end the span at its true end."""
        span = opened.span
        if not span.is_recording():
            return
        span.set_attributes(record.end_attributes())
        if record.error_type is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(record.end_ns)
