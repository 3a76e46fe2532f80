"""Names made from requests: metrics stay bounded, what they fold is counted, spans keep the names."""

from __future__ import annotations

import gc
import logging
import tracemalloc

import pytest
import torch
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from torch import nn

import warpspan
from tests.support.records import inference
from warpspan import guard
from warpspan.emit.emitter import Emitter
from warpspan.emit.labels import COMBINATION_LIMIT, NAME_LIMIT
from warpspan.records import Device, GenAi, Generation, Inference, Loop, Model, Timing
from warpspan.testing import InMemoryTelemetry

RECORD = inference(
    start_ns=1_000,
    duration_s=0.5,
    timing=Timing(idle_time_s=0.25),
)
OPERATION, MODEL = "pytorch.operation.name", "pytorch.model.name"
REQUEST_MODEL, ERROR = "gen_ai.request.model", "error.type"
DURATION, IDLE = "pytorch.inference.duration", "pytorch.inference.idle.time"
FOLDED = "warpspan.labels.folded"


class Finisher:
    waiting = 0

    def __init__(self):
        self.dropped = {}

    def longest_slice_s(self):
        return None


class Pipeline:
    """An emitter whose points are in memory, and whose spans are not recorded."""

    def __init__(self):
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.instrument()

    def instrument(self):
        self.emitter = Emitter("1", TracerProvider(sampler=ALWAYS_OFF), self.meters)
        self.emitter.observe(list, Finisher(), list, list, dict, hardware=False)

    def emit(self, record):
        opened = self.emitter.start("x", record.start_attributes(), record.start_ns)
        self.emitter.leave(opened)
        self.emitter.record_metrics(opened, record)
        self.emitter.end_span(opened, record)

    def points(self, name):
        return points_of(self.reader, name)

    def folded(self):
        return {point.attributes["warpspan.label"]: point.value for point in self.points(FOLDED)}


def points_of(reader, name):
    data = reader.get_metrics_data()
    return [
        point
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]


@pytest.fixture
def pipeline():
    guard.forget()
    made = Pipeline()
    yield made
    made.emitter.close()
    assert {} == dict(guard.faults)


def named(kind, index):
    """A record that only one attribute tells from the others."""
    if kind == OPERATION:
        return RECORD._replace(operation=f"op{index}")
    if kind == MODEL:
        return RECORD._replace(model=Model(f"Model{index}"))
    if kind == ERROR:
        return RECORD._replace(error_type=f"Error{index}")
    gen_ai = GenAi(operation="chat", provider="pytorch", request_model=f"org/model{index}")
    return RECORD._replace(loop=Loop(generation=Generation(first_token_s=0.5), gen_ai=gen_ai))


@pytest.mark.parametrize(
    ("kind", "metric", "other"),
    [
        (OPERATION, DURATION, "other"),
        (OPERATION, IDLE, "other"),
        (MODEL, DURATION, "other"),
        (MODEL, IDLE, "other"),
        (ERROR, DURATION, "_OTHER"),
        (REQUEST_MODEL, "gen_ai.server.time_to_first_token", "other"),
    ],
)
def test_many_names(pipeline, kind, metric, other):
    """The first 200 have series of their own, all further ones share one, and are counted."""
    for index in range(1_000):
        pipeline.emit(named(kind, index))
    values = {point.attributes[kind]: point for point in pipeline.points(metric)}
    assert NAME_LIMIT + 1 == len(values)
    amount = getattr(values[other], "count", None) or values[other].value / 0.25
    assert 1_000 - NAME_LIMIT == amount
    assert {kind: 1_000 - NAME_LIMIT} == pipeline.folded()


def test_names_that_were_there_stay(pipeline):
    """A name from before the limit keeps its series after it."""
    for index in (*range(NAME_LIMIT + 50), 0):
        pipeline.emit(named(OPERATION, index))
    counts = {point.attributes[OPERATION]: point.count for point in pipeline.points(DURATION)}
    assert (2, 50) == (counts["op0"], counts["other"])
    assert {OPERATION: 50} == pipeline.folded()


def test_the_name_other_of_the_user(pipeline):
    """One that is really called so is not counted as folded."""
    pipeline.emit(RECORD._replace(operation="other"))
    assert ["other"] == [point.attributes[OPERATION] for point in pipeline.points(DURATION)]
    assert {} == pipeline.folded()


def test_combinations_are_bounded_too(pipeline):
    """Few operations of few models can be many pairs: known ones stay, new ones are folded."""
    for operation in range(100):
        for model in range(100):
            pipeline.emit(RECORD._replace(operation=f"op{operation}", model=Model(f"M{model}")))
    pairs = {
        (point.attributes[OPERATION], point.attributes[MODEL]): point.count
        for point in pipeline.points(DURATION)
    }
    rest = 10_000 - COMBINATION_LIMIT
    assert (COMBINATION_LIMIT + 1, rest) == (len(pairs), pairs["other", "other"])
    assert {OPERATION: rest, MODEL: rest} == pipeline.folded()


def test_it_is_logged_once(pipeline, caplog):
    """One line for each attribute, with the metric that counts."""
    for index in range(NAME_LIMIT + 10):
        pipeline.emit(named(OPERATION, index))
    assert [
        f"warpspan: {OPERATION} has too many values for metrics, so new ones are recorded as "
        f"`other` (logged once, counted in {FOLDED}); spans keep them"
    ] == caplog.messages


def test_a_logging_handler_that_raises(pipeline):
    """The inference whose name is the first too many is still counted."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise LookupError("of a handler")

    handler = Broken()
    logging.getLogger("warpspan").addHandler(handler)
    try:
        for index in range(NAME_LIMIT + 1):
            pipeline.emit(named(OPERATION, index))
    finally:
        logging.getLogger("warpspan").removeHandler(handler)
    assert NAME_LIMIT + 1 == len(pipeline.points(DURATION))
    assert {"metrics": 1} == dict(guard.faults)
    guard.forget()


def test_names_go_on_in_the_next_instrumentation(pipeline):
    """Series of a meter stay for as long as it lives, and so do the names that have one."""
    for index in range(NAME_LIMIT + 5):
        pipeline.emit(named(OPERATION, index))
    pipeline.emitter.close()
    pipeline.instrument()
    for index in (0, NAME_LIMIT + 5):
        pipeline.emit(named(OPERATION, index))
    counts = {point.attributes[OPERATION]: point.count for point in pipeline.points(DURATION)}
    assert (NAME_LIMIT + 1, 2, 6) == (len(counts), counts["op0"], counts["other"])
    assert {OPERATION: 6} == pipeline.folded()


def test_memory_stays_flat(pipeline):
    """20,000 names, models and errors, each its own, take no more memory than the first thousand."""

    def emit(indices):
        for index in indices:
            pipeline.emit(
                Inference(
                    operation=f"op{index}",
                    start_ns=1_000,
                    duration_s=0.5,
                    device=Device("cpu"),
                    model=Model(f"M{index}"),
                    timing=Timing(idle_time_s=0.25),
                    error_type=f"E{index}",
                )
            )
        pipeline.points(DURATION)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = emit(range(1_000))
        after = emit(range(1_000, 20_000))
    finally:
        tracemalloc.stop()
    assert after - before < 64 * 1024


def test_operations_of_a_program():
    """Through the whole of warpspan: bounded series, and spans with the true names."""
    with InMemoryTelemetry() as telemetry:
        for index in range(NAME_LIMIT + 20):
            with warpspan.inference(f"op{index}"):
                pass
        spans = telemetry.spans()
        points = telemetry.metrics()
    true = [f"op{index}" for index in range(NAME_LIMIT + 20)]
    assert true == [span.name for span in spans]
    assert true == [span.attributes[OPERATION] for span in spans]
    counts = {point.attributes[OPERATION]: point.count for point in points[DURATION]}
    assert {**dict.fromkeys(true[:NAME_LIMIT], 1), "other": 20} == counts
    assert [({"warpspan.label": OPERATION}, 20)] == [
        (dict(point.attributes), point.value) for point in points[FOLDED]
    ]


def test_classes_made_at_run_time():
    """A class for each model, as some programs make them."""
    with InMemoryTelemetry() as telemetry:
        for index in range(NAME_LIMIT + 20):
            type(f"Model{index}", (nn.Linear,), {})(2, 2).eval()(torch.ones(1, 2))
        spans = telemetry.spans()
        points = telemetry.metrics()
    true = [f"Model{index}" for index in range(NAME_LIMIT + 20)]
    assert true == [span.attributes[MODEL] for span in spans]
    counts = {point.attributes[MODEL]: point.count for point in points[DURATION]}
    assert {**dict.fromkeys(true[:NAME_LIMIT], 1), "other": 20} == counts
