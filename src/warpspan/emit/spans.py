"""The span of an inference: started and made current by the caller, ended by the finisher."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
)

from warpspan import guard
from warpspan.records import (
    DETAILS_EVENT,
    PROFILE_EVENT,
    STEPS_EVENT,
    Inference,
    StepMode,
    StepTime,
    take_out_details,
    take_out_profile,
)
from warpspan.signals import names

#: Child spans of one inference: each costs the finisher about 30 µs, and the exporter as much.
STEP_SPAN_LIMIT = 128

# Instrumentations honour both: the key of the SDK's exporters and its older plain form.
_SUPPRESSED = otel_context._SUPPRESS_INSTRUMENTATION_KEY
_SUPPRESSED_PLAIN = "suppress_instrumentation"


# A span on the caller's thread: the span, recording or not, the context in which it is current
# (metrics recorded in it get exemplars), the one that was current before, what it was started
# with, and whether it is recorded. A plain tuple, since a named one costs the caller three times as much.
OpenSpan: TypeAlias = tuple[Span, otel_context.Context, otel_context.Context, dict[str, Any], bool]

#: Stands for a span that is not recorded, once it has been left.
UNRECORDED: OpenSpan = (
    trace.INVALID_SPAN,
    otel_context.Context(),
    otel_context.Context(),
    {},
    False,
)


class Spans:
    """Starts and ends the spans of inferences.

    Args:
        tracer: makes them.
        steps: how single steps are recorded.
    """

    def __init__(self, tracer: Tracer, steps: str = StepMode.SUMMARY) -> None:
        self._tracer = tracer
        # Without the API's functions around them: four calls of each inference, 60 ns each.
        context = otel_context._RUNTIME_CONTEXT
        variable = getattr(context, "_current_context", None)
        type(context) is ContextVarsRuntimeContext and isinstance(variable, ContextVar)
        self._current: Callable[[], otel_context.Context]
        self._attach: Callable[[otel_context.Context], object]
        if type(context) is ContextVarsRuntimeContext and isinstance(variable, ContextVar):
            self._current, self._attach = variable.get, variable.set
        else:
            self._current, self._attach = context.get_current, context.attach
        self._step_spans = steps == StepMode.SPANS

    def start(self, name: str, attributes: dict[str, Any], start_ns: int) -> OpenSpan | None:
        """Start a span that `enter` makes current; None where instrumentation is suppressed."""
        outer = self._current()
        if outer.get(_SUPPRESSED) or outer.get(_SUPPRESSED_PLAIN):
            return None
        try:
            span = self._tracer.start_span(
                name, outer, SpanKind.INTERNAL, attributes, None, start_ns
            )
        except Exception as error:  # of a span processor: the inference still counts in metrics
            guard.caught("span", error)
            span = NonRecordingSpan(trace.get_current_span(outer).get_span_context())
        inner = trace.set_span_in_context(span, outer)
        return span, inner, outer, attributes, span.is_recording()

    def enter(self, opened: OpenSpan) -> None:
        """Make it current."""
        self._attach(opened[1])

    def leave(self, opened: OpenSpan) -> None:
        """Make current what was before."""
        # A generator may be resumed, and its span left, in another context: nothing of ours is
        # current there, and OpenTelemetry would log an error with a traceback.
        # Not by `detach`, which swallows what a signal handler raises in it.
        if self._current() is opened[1]:
            self._attach(opened[2])

    def request(self, opened: OpenSpan | None) -> int:
        """The trace that was current when a span started, or now for None; 0 for none."""
        outer = None if opened is None else opened[2]
        return trace.get_current_span(outer).get_span_context().trace_id

    def ids(self, opened: OpenSpan) -> tuple[str, str, str]:
        """Hexadecimal ids of its trace, of itself and of its parent; empty where it is not recorded."""
        span, _, _, _, recording = opened
        if not recording:
            return "", "", ""
        context, parent = span.get_span_context(), getattr(span, "parent", None)
        return (
            trace.format_trace_id(context.trace_id),
            trace.format_span_id(context.span_id),
            trace.format_span_id(parent.span_id) if parent is not None else "",
        )

    def finish(self, opened: OpenSpan, record: Inference) -> None:
        """Set what is known by now and end the span at its true end."""
        span, _, _, _, recording = opened
        if not recording:
            return
        attributes = record.end_attributes()
        profile = take_out_profile(attributes) if record.profile is not None else {}
        details = take_out_details(attributes)
        span.set_attributes(attributes)
        if profile:
            span.add_event(PROFILE_EVENT, profile, record.end_ns)
        if details:
            span.add_event(DETAILS_EVENT, details, record.end_ns)
        if record.error_type is not None:
            span.set_status(Status(StatusCode.ERROR))
        if record.loop is not None and record.loop.steps:
            self._tell_steps(opened, record, record.loop.steps)
        span.end(record.end_ns)

    def _tell_steps(self, opened: OpenSpan, record: Inference, steps: tuple[StepTime, ...]) -> None:
        span, context, _, _, _ = opened
        if not self._step_spans:
            span.add_event(
                STEPS_EVENT,
                {
                    names.PYTORCH_STEP_PHASES: [step.phase for step in steps],
                    names.PYTORCH_STEP_STARTS: [step.start_s for step in steps],
                    names.PYTORCH_STEP_DURATIONS: [step.duration_s for step in steps],
                },
                record.end_ns,
            )
            return
        for step in steps[:STEP_SPAN_LIMIT]:
            start_ns = record.start_ns + round(step.start_s * 1e9)
            child = self._tracer.start_span(
                step.phase,
                context,
                SpanKind.INTERNAL,
                {names.PYTORCH_STEP_PHASE: step.phase},
                None,
                start_ns,
            )
            child.end(start_ns + round(step.duration_s * 1e9))
