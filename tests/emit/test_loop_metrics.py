"""The metrics of loops point to their span, and are there only where there is a loop."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from tests.support.records import inference
from warpspan.emit.emitter import Emitter
from warpspan.records import Denoising, GenAi, Generation, Loop

RECORD = inference(
    operation="generate",
    start_ns=1_000,
    duration_s=2.0,
)
GENERATION = Generation(input_tokens=5, generated_tokens=8, first_token_s=0.5, token_mean_s=0.25)
GEN_AI = GenAi(
    operation="text_completion",
    provider="pytorch",
    request_model="a/b",
    input_tokens=5,
    output_tokens=8,
)
NAMED = {
    "gen_ai.operation.name": "text_completion",
    "gen_ai.provider.name": "pytorch",
    "gen_ai.request.model": "a/b",
}


@pytest.fixture
def emit():
    """Emits a record; answers with its span and with all points, by the name of their metric."""
    reader = InMemoryMetricReader()
    telemetry = Emitter("1.2.3", TracerProvider(), MeterProvider([reader]))

    def run(record):
        opened = telemetry.start("generate", record.start_attributes(), record.start_ns)
        telemetry.leave(opened)
        telemetry.record_metrics(opened, record)
        telemetry.end_span(opened, record)
        data = reader.get_metrics_data()
        scopes = data.resource_metrics[0].scope_metrics if data else []
        metrics = [metric for scope in scopes for metric in scope.metrics]
        points = {metric.name: list(metric.data.data_points) for metric in metrics}
        return opened[0].get_span_context().span_id, points

    yield run
    telemetry.close()


def test_a_generation(emit):
    """Ours by operation and device, the conventions' by their own attributes, with exemplars."""
    span_id, points = emit(RECORD._replace(loop=Loop(generation=GENERATION, gen_ai=GEN_AI)))
    ours = {"pytorch.operation.name": "generate", "pytorch.device.type": "cpu"}
    assert {
        "pytorch.inference.token.first.duration": [(ours, 0.5)],
        "pytorch.inference.token.duration": [(ours, 0.25)],
        "gen_ai.server.request.duration": [(NAMED, 2.0)],
        "gen_ai.server.time_to_first_token": [(NAMED, 0.5)],
        "gen_ai.server.time_per_output_token": [(NAMED, 0.25)],
    } == {
        name: [(dict(point.attributes), point.sum) for point in found]
        for name, found in points.items()
        if name not in ("pytorch.inference.tokens", "pytorch.inference.duration")
    }
    assert [
        (ours | {"pytorch.token.type": "input"}, 5),
        (ours | {"pytorch.token.type": "generated"}, 8),
    ] == [(dict(point.attributes), point.value) for point in points["pytorch.inference.tokens"]]
    assert {span_id} == {
        exemplar.span_id
        for found in points.values()
        for point in found
        for exemplar in point.exemplars
    }


def test_one_that_failed(emit):
    """Its duration counts with the class of its error; the conventions want no times of it."""
    _, points = emit(
        RECORD._replace(loop=Loop(generation=GENERATION, gen_ai=GEN_AI), error_type="ValueError")
    )
    (point,) = points["gen_ai.server.request.duration"]
    assert NAMED | {"error.type": "ValueError"} == dict(point.attributes)
    assert not {name for name in points if name.startswith("gen_ai.server.time_")}


def test_a_diffusion(emit):
    """The time of a step."""
    _, points = emit(RECORD._replace(loop=Loop(denoising=Denoising(steps=30, step_mean_s=0.08))))
    assert [0.08] == [point.sum for point in points["pytorch.inference.denoise.step.duration"]]


def test_other_inferences(emit):
    """No loop, no metric of one."""
    _, points = emit(RECORD._replace(loop=Loop()))
    assert ["pytorch.inference.duration"] == list(points)
