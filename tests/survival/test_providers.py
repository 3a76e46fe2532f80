"""Samplers, suppression, and processors, readers and callbacks of the host that fail."""

from __future__ import annotations

import logging
import threading

import pytest
import torch
from opentelemetry.context import attach, detach, set_value
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.metrics import Observation
from opentelemetry.sdk.trace import IdGenerator, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from torch import nn

import warpspan
from warpspan import guard, instrumentor

X = torch.ones(2, 4)
DURATION = "pytorch.inference.duration"
LABELS = ("forward", "Linear", "cpu")


class EvenIds(IdGenerator):
    """Trace ids spread evenly over their range, so that a ratio is exact."""

    def __init__(self):
        self._last = 0

    def generate_span_id(self):
        self._last += 1
        return self._last

    def generate_trace_id(self):
        self._last += 1
        return (1 << 64) + (self._last * 0x9E3779B97F4A7C15) % (1 << 64)


@pytest.fixture
def model():
    return nn.Linear(4, 4).eval()


def sampled(sampler):
    """A provider with a sampler, and where its spans are."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, id_generator=EvenIds())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


@pytest.mark.parametrize(("ratio", "spans"), [(0.0, 0), (0.1, 10), (1.0, 100)])
def test_sampling(uninstrumented, model, ratio, spans):
    """Of 100 inferences the sampled ones are spans; the metrics count every one."""
    provider, exporter = sampled(TraceIdRatioBased(ratio))
    uninstrumented.instrument(tracer_provider=provider)
    for _ in range(100):
        model(X)
    assert 100 == uninstrumented.points(DURATION)[LABELS].count
    assert spans == len(exporter.get_finished_spans())


def test_unsampled_inferences_of_a_sampled_trace(uninstrumented, model):
    """What is inside an inference that is not sampled follows its parent, and keeps its trace."""
    provider, exporter = sampled(ALWAYS_OFF)
    uninstrumented.instrument(tracer_provider=provider)
    inside = []

    class Notes(nn.Linear):
        def forward(self, x):
            with uninstrumented.tracer.start_as_current_span("inner") as span:
                inside.append(span.get_span_context().trace_id)
            return super().forward(x)

    with uninstrumented.tracer.start_as_current_span("request") as request:
        Notes(4, 4).eval()(X)
    assert () == exporter.get_finished_spans()
    assert [request.get_span_context().trace_id] == inside


class SamplesModels(Sampler):
    """Keeps the spans of one model, by what it sees when a span starts."""

    def __init__(self):
        self.seen = []

    def should_sample(self, context, trace_id, name, kind, attributes, *rest, **options):
        self.seen.append((name, dict(attributes)))
        keep = attributes["pytorch.model.name"] == "Conv2d"
        return SamplingResult(Decision.RECORD_AND_SAMPLE if keep else Decision.DROP, attributes)

    def get_description(self):
        return "SamplesModels"


def test_head_samplers_see_model_and_device(uninstrumented, model):
    """They decide by the attributes that a span has from its start."""
    sampler = SamplesModels()
    provider, exporter = sampled(sampler)
    uninstrumented.instrument(tracer_provider=provider)
    model(X)
    nn.Conv2d(1, 1, 1).eval()(torch.ones(1, 1, 2, 2))
    assert warpspan.flush(30)
    assert ["forward Conv2d"] == [span.name for span in exporter.get_finished_spans()]
    assert [
        (
            f"forward {name}",
            {
                "pytorch.operation.name": "forward",
                "pytorch.model.name": name,
                "pytorch.device.type": "cpu",
            },
        )
        for name in ("Linear", "Conv2d")
    ] == sampler.seen


def test_suppressed(telemetry, expected, model):
    """Nothing inside is recorded, neither span nor metric nor step; afterwards all is."""
    with suppress_instrumentation():
        model(X)
        with warpspan.inference("rerank"):
            model(X)
    token = attach(set_value("suppress_instrumentation", True))
    nn.Sequential(model).eval()(X)
    detach(token)
    assert [] == telemetry.inferences()
    assert {} == telemetry.points(DURATION)
    model(X)
    assert [expected(model, (2, 4), first=True)] == telemetry.inferences()


class Raises(SpanProcessor):
    """A processor of the host that fails."""

    def __init__(self, at):
        self.at = at

    def on_start(self, span, parent_context=None):
        if self.at == "start":
            raise LookupError("of a processor")

    def on_end(self, span):
        if self.at == "end":
            raise LookupError("of a processor")

    def force_flush(self, timeout_millis=0):
        if self.at == "flush":
            raise LookupError("of a processor")
        return True


@pytest.mark.parametrize(("at", "origin"), [("start", "span"), ("end", "span")])
def test_a_span_processor_that_raises(uninstrumented, model, caplog, at, origin):
    """The model answers, the metrics count, the fault is logged once and counted each time."""
    provider = TracerProvider()
    provider.add_span_processor(Raises(at))
    uninstrumented.instrument(tracer_provider=provider)
    with uninstrumented.tracer.start_as_current_span("request") as request:
        for _ in range(3):
            assert (2, 4) == model(X).shape
        inner = uninstrumented.tracer.start_span("inner")
    assert request.get_span_context().span_id == inner.parent.span_id
    assert 3 == uninstrumented.points(DURATION)[LABELS].count
    assert 3 == uninstrumented.points("warpspan.faults")[(origin,)].value
    assert {origin: 3} == guard.faults
    guard.forget()
    assert [f"warpspan: {origin} failed, the inference continues without it"] == [
        message.partition(" (")[0] for message in caplog.messages
    ]


def test_a_processor_that_raises_when_flushed(uninstrumented, model):
    """The flush says that it failed, and does not raise."""
    provider = TracerProvider()
    provider.add_span_processor(Raises("flush"))
    uninstrumented.instrument(tracer_provider=provider)
    model(X)
    assert warpspan.flush(30) is False
    assert {"flush": 1} == guard.faults
    guard.forget()


def join_flushes():
    """Wait for the threads of flushes that were given up."""
    for thread in threading.enumerate():
        if thread.name == "warpspan-flush":
            thread.join()


def test_flushes_whose_time_runs_out(telemetry, model, caplog):
    """None of them is a fault, and none leaves a line in the log."""
    for _ in range(30):
        model(X)
        warpspan.flush(0.001)
    join_flushes()
    assert ({}, []) == (dict(guard.faults), caplog.messages)


class Late(SpanProcessor):
    """A processor of the host that comes to its end when a flush was given up."""

    def __init__(self, end):
        self.given_up = threading.Event()
        self.end = end

    def force_flush(self, timeout_millis=0):
        self.given_up.wait()
        return self.end()


def fail():
    raise TimeoutError("of a processor")


@pytest.mark.parametrize("end", [fail, lambda: False, lambda: True])
def test_a_processor_that_ends_after_the_flush(uninstrumented, model, caplog, end):
    """Whatever it comes to: the flush is not done, which is no fault and no line in the log."""
    late = Late(end)
    provider = TracerProvider()
    provider.add_span_processor(late)
    uninstrumented.instrument(tracer_provider=provider)
    model(X)
    assert warpspan.flush(0.01) is False
    late.given_up.set()
    join_flushes()
    assert ({}, []) == (dict(guard.faults), caplog.messages)


def test_a_processor_that_raises_when_its_time_is_up(uninstrumented, model, caplog):
    """It was given more time than the flush waits for it, so that it can't do so in time."""

    class Impatient(SpanProcessor):
        def force_flush(self, timeout_millis=0):
            threading.Event().wait(timeout_millis / 1e3)
            fail()

    provider = TracerProvider()
    provider.add_span_processor(Impatient())
    uninstrumented.instrument(tracer_provider=provider)
    model(X)
    assert warpspan.flush(0.0104) is False
    join_flushes()
    assert ({}, []) == (dict(guard.faults), caplog.messages)


def test_a_metrics_callback_that_raises(telemetry, model):
    """A callback of the host, collected together with ours, costs ours nothing."""

    def fail(options):
        raise LookupError("of a callback")

    def work(options):
        yield Observation(1)

    meter = telemetry.meter_provider.get_meter("host")
    meter.create_observable_gauge("broken", [fail])
    meter.create_observable_gauge("working", [work])
    model(X)
    assert 1 == telemetry.points(DURATION)[LABELS].count
    assert [1] == [point.value for point in telemetry.points("working").values()]


def test_metrics_that_fail(uninstrumented, model, monkeypatch):
    """A histogram that raises does not cost the span."""
    from opentelemetry.sdk.metrics import Histogram

    uninstrumented.instrument()

    def fail(*args, **kwargs):
        raise LookupError("of a histogram")

    monkeypatch.setattr(Histogram, "record", fail)
    model(X)
    assert ["forward Linear"] == [span["name"] for span in uninstrumented.inferences()]
    assert {"metrics": 1} == guard.faults
    guard.forget()


def test_a_logging_handler_that_raises(uninstrumented, model):
    """Even where the host's logging fails, a fault of ours does not reach the model."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise LookupError("of a handler")

    provider = TracerProvider()
    provider.add_span_processor(Raises("start"))
    uninstrumented.instrument(tracer_provider=provider)
    handler = Broken()
    logging.getLogger("warpspan").addHandler(handler)
    try:
        assert (2, 4) == model(X).shape
    finally:
        logging.getLogger("warpspan").removeHandler(handler)
    assert {"span": 1} == guard.faults
    guard.forget()


def test_only_spans_or_only_metrics(uninstrumented, expected, model):
    """Each kind of provider works without the other."""
    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.trace import NoOpTracerProvider

    uninstrumented.instrument(meter_provider=NoOpMeterProvider())
    model(X)
    assert [expected(model, (2, 4), first=True)] == uninstrumented.inferences()
    uninstrumented.uninstrument()
    uninstrumented.instrument(tracer_provider=NoOpTracerProvider())
    model(X)
    assert 1 == uninstrumented.points(DURATION)[LABELS].count
    assert 1 == len(uninstrumented.inferences())


def test_more_inferences_than_the_queue_holds(uninstrumented, model):
    """They go on; what was not recorded is counted, and open calls go down to zero again."""
    uninstrumented.instrument(queue_size=16)
    with instrumentor.active_session().finisher._working:  # nothing is finished meanwhile
        threads = [threading.Thread(target=lambda: [model(X) for _ in range(20)]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    recorded = uninstrumented.points(DURATION)[LABELS].count
    dropped = uninstrumented.points("warpspan.dropped")[("queue_full",)].value
    assert 40 == recorded + dropped
    assert recorded in {16, 17}  # both threads may find the last place
    assert {("cpu",): 0} == {
        labels: point.value
        for labels, point in uninstrumented.points("pytorch.inference.active").items()
    }
