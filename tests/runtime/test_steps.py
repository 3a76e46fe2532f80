"""`warpspan.step`, the steps of an inference, and how they are told one by one."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

import warpspan
from warpspan.emit.spans import STEP_SPAN_LIMIT
from warpspan.records import Generation, Phases
from warpspan.runtime.steps import STEP_LIMIT
from warpspan.testing import InMemoryTelemetry

X = torch.ones(2, 4)


@pytest.fixture
def model():
    return nn.Linear(4, 4).eval()


@pytest.fixture
def device(device):
    torch.zeros(1, device="cuda")  # as by a program that uses the device
    return device


def test_steps_of_ones_own(telemetry, expected, model):
    """A marked step holds the module calls inside; the first of them tells model and input."""
    with warpspan.inference("search"):
        for _ in range(3):
            with warpspan.step():
                model(X)
                model(X)
    assert [
        expected(model, (2, 4), operation="search", first=True, steps=3) | {"name": "search"}
    ] == telemetry.inferences()


def test_steps_that_are_called_prefill_and_decode(telemetry, model):
    """They make a generation: time to the first token and for each later one."""
    with warpspan.inference("chat", model=model):
        for name in ("prefill", "decode", "decode"):
            with warpspan.step(name):
                model(X)
    attributes = telemetry.inferences()[0]["attributes"]
    assert (3, 2) == (attributes["pytorch.step.count"], attributes["pytorch.decode.step.count"])
    assert {"pytorch.token.first.time", "pytorch.token.duration.p50", "pytorch.prefill.time"} <= (
        attributes.keys()
    )
    assert "pytorch.token.generated.count" not in attributes


def test_a_step_outside_an_inference(telemetry, model):
    """It marks nothing: the module call is the inference."""
    with warpspan.step("decode"):
        model(X)
    assert ["forward Linear"] == [span["name"] for span in telemetry.inferences()]


def test_a_step_inside_a_step_and_inside_a_module_call(telemetry):
    """Only the outermost counts."""

    class Loop(nn.Linear):
        def forward(self, x):
            with warpspan.step():
                return super().forward(x)

    loop = Loop(4, 4).eval()
    with warpspan.inference("search"):
        with warpspan.step(), warpspan.step():
            loop(X)
        loop(X)
    (span,) = telemetry.inferences()
    assert 2 == span["attributes"]["pytorch.step.count"]


def test_a_step_that_fails(telemetry, model):
    """It ends, the error is the user's."""
    with pytest.raises(ValueError), warpspan.inference("search"), warpspan.step():  # noqa: PT012
        model(X)
        raise ValueError
    (span,) = telemetry.inferences()
    assert (1, "ValueError") == (
        span["attributes"]["pytorch.step.count"],
        span["attributes"]["error.type"],
    )


def test_one_object_shared_by_threads(telemetry, model):
    """Each thread leaves the step that it entered."""
    mark = warpspan.step()
    entered = threading.Event()
    left = threading.Event()

    def other():
        with warpspan.inference("other"):
            with mark:
                entered.set()
                assert left.wait(30)
            model(X)

    thread = threading.Thread(target=other)
    with warpspan.inference("one"), mark:
        thread.start()
        assert entered.wait(30)
    left.set()
    thread.join(30)
    assert {"one": 1, "other": 2} == {
        span["name"]: span["attributes"]["pytorch.step.count"] for span in telemetry.inferences()
    }


def test_uninstrumented(model):
    """It runs the code."""
    with warpspan.step("decode"):
        assert (2, 4) == model(X).shape


def test_names_are_bounded(telemetry):
    """What has too many names is told without."""
    with warpspan.inference("search"):
        for number in range(200):
            with warpspan.step(f"part {number}"):
                pass
    (span,) = telemetry.inferences()
    assert 200 == span["attributes"]["pytorch.step.count"]


def test_steps_above_the_limit_are_counted(telemetry):
    """Counts and totals go on; the single times are those of the first."""
    with warpspan.inference("chat"):
        with warpspan.step("prefill"):
            pass
        for _ in range(STEP_LIMIT + 9):
            with warpspan.step("decode"):
                pass
    (record,) = telemetry.records()
    assert STEP_LIMIT + 10 == record.steps.total
    assert STEP_LIMIT + 9 == record.loop.generation.decode_steps
    generation = record.loop.generation
    assert generation.decode_s == pytest.approx(generation.token_mean_s * generation.decode_steps)


def test_an_event_with_all_steps(uninstrumented, model):
    """`events`: one event with an array for each: what it was, when it began, how long it took."""
    uninstrumented.instrument(steps="events")
    with warpspan.inference("chat", model=model):
        for name in ("prefill", "decode", "resample"):
            with warpspan.step(name):
                model(X)
    (span,) = uninstrumented.spans()
    (event,) = span.events
    attributes = dict(event.attributes)
    starts = attributes.pop("pytorch.step.starts")
    durations = attributes.pop("pytorch.step.durations")
    assert ("pytorch.steps", {"pytorch.step.phases": ("prefill", "decode", "resample")}) == (
        event.name,
        attributes,
    )
    assert list(starts) == sorted(starts)
    assert 3 == len(durations)
    assert all(duration >= 0 for duration in durations)
    assert span.end_time == event.timestamp


def test_spans_of_single_steps(uninstrumented, model):
    """`spans`: children with true times, of which there are only so many."""
    uninstrumented.instrument(steps="spans")
    with warpspan.inference("chat", model=model):
        for _ in range(STEP_SPAN_LIMIT + 1):
            with warpspan.step("decode"):
                model(X)
    spans = uninstrumented.spans()
    parent = next(span for span in spans if span.parent is None)
    children = [span for span in spans if span.parent is not None]
    assert ["decode"] * STEP_SPAN_LIMIT == [span.name for span in children]
    assert {parent.context.span_id} == {span.parent.span_id for span in children}
    assert all(
        parent.start_time <= span.start_time <= span.end_time <= parent.end_time
        for span in children
    )
    assert {"pytorch.step.phase": "decode"} == dict(children[0].attributes)
    assert ["chat"] == [record.operation for record in uninstrumented.records()]


def test_device_time_of_a_generation(device):
    """On a GPU: the device's own times, whole numbers, though the host never waits."""
    with InMemoryTelemetry() as telemetry:
        with warpspan.inference("chat"):
            device.launch(0.001)  # something of the program's before
            with warpspan.step("prefill"):
                device.launch(0.050)
            for length in (0.010, 0.010, 0.030):
                device.launch(0.002)  # sampling
                with warpspan.step("decode"):
                    device.launch(length)
        (record,) = telemetry.records()
    assert 0.0 == record.duration_s
    close = pytest.approx
    assert record.loop.phases == Phases(source="device")
    assert record.loop.generation == Generation(
        first_token_s=close(0.051),
        token_mean_s=close(0.056 / 3),
        token_p50_s=close(0.012),
        token_p99_s=close(0.032),
        token_max_s=close(0.032),
        prefill_s=close(0.050),
        decode_s=close(0.056),
        decode_steps=3,
        between_s=close(0.006),
        between_share=close(6 / 56),
    )


def test_device_time_to_the_first_token_holds_the_queue(device):
    """Work that was enqueued before is waited for, too."""
    with InMemoryTelemetry() as telemetry:
        nn.Linear(1, 1).to("cuda").eval()(torch.ones(1, 1, device="cuda"))
        device.complete()
        device.clock.advance(2)
        nn.Linear(1, 1).to("cuda").eval()(torch.ones(1, 1, device="cuda"))  # ties the clocks
        device.launch(0.100)
        with warpspan.inference("chat"), warpspan.step("prefill"):
            device.launch(0.050)
        record = telemetry.records()[-1]
    assert pytest.approx(0.150) == record.loop.generation.first_token_s
    assert pytest.approx(0.050) == record.loop.generation.prefill_s


def test_events_of_steps_go_back_to_the_pool(device):
    """A later inference makes no new ones."""
    with InMemoryTelemetry() as telemetry:

        def run():
            with warpspan.inference("chat"):
                for _ in range(5):
                    with warpspan.step("decode"):
                        device.launch(0.001)
            return telemetry.records()[-1]

        for _ in range(5):
            assert "device" == run().loop.phases.source
        (runtime_device,) = warpspan.instrumentor.active_tracker().runtime_devices
        assert len(runtime_device.timeline._pool) < 5 * 10


def test_steps_inside_a_graph_capture(device):
    """Events can't be recorded there: the host's times are told."""
    with InMemoryTelemetry() as telemetry:
        with warpspan.inference("chat"):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph), warpspan.step("prefill"):
                device.launch(0.001)
        (record,) = telemetry.records()
    assert "host" == record.loop.phases.source


def test_the_inference_after_steps_in_a_graph_capture(recorded, device):
    """It has its device time: what the captured steps had no event for is not lent as one."""
    graph = torch.cuda.CUDAGraph()
    with warpspan.inference("chat"), torch.cuda.graph(graph), warpspan.step("prefill"):
        device.launch(0.001)
    recorded.records()
    with warpspan.inference("chat"):
        device.launch(0.250)
    assert pytest.approx(0.250) == recorded.records()[-1].timing.device_time_s
