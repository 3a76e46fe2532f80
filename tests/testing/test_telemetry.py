"""What an instrumented program records, kept in memory; with the scripted device, in whole."""

import sys

import pytest
import torch
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import warpspan
from warpspan.records import Device, Inference, Input, Memory, Model, Timing
from warpspan.testing import InMemoryTelemetry

UUID = "GPU-00000000-0000-0000-0000-000000000001"


class Classifier(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))


@torch.inference_mode()
def test_whole_records_of_a_scripted_device(device, recorded):
    """Two inferences of a model on the device are recorded with the script's own numbers."""
    model = Classifier().eval().to("cuda")
    x = torch.ones(2, 8, device="cuda")
    start_ns = device.clock.wall_ns()
    device.op_time_s = 1e-3
    model(x)
    device.clock.advance(0.5)
    model(x)
    records = [
        record._replace(
            timing=record.timing._replace(cpu_time_s=None, gc_time_s=None, gc_count=None),
            trace_id="",
            span_id="",
            process="",
        )
        for record in recorded.records()
    ]
    first = Inference(
        operation="forward",
        start_ns=start_ns,
        duration_s=0.0,  # the host waits for nothing
        device=Device("cuda", 0, UUID),
        model=Model(
            name="Classifier",
            parameter_count=212,
            parameter_bytes=848,
            dtype="float32",
            quantization=None,
            compiled=False,
            device_count=1,
        ),
        input=Input(batch_size=2, sequence_length=None, shape=(2, 8)),
        timing=Timing(device_time_s=3e-3, queue_time_s=0.0, concurrency=1),
        memory=Memory(
            allocated_start_bytes=5 * 512,
            allocated_end_bytes=6 * 512,
            peak_bytes=7 * 512,
            peak_increase_bytes=2 * 512,
            reserved_bytes=2 << 20,
            limit_bytes=85_520_809_984,
            utilization=7 * 512 / 85_520_809_984,
            allocation_retries=0,
        ),
    )
    second = first._replace(
        start_ns=start_ns + 500_000_000,
        timing=first.timing._replace(idle_time_s=0.497),
    )
    assert [first, second] == records


@torch.inference_mode()
def test_warpspan_never_synchronizes(device, recorded):
    """What it asks of the device never makes a thread wait; a program's own wait is seen."""
    model = Classifier().eval().cuda()
    x = torch.ones(2, 8, device="cuda")
    assert {"MainThread": 4} == dict(device.synchronizations)  # the weights were copied
    device.calls.clear()
    device.op_time_s = 1e-3
    for _ in range(3):
        model(x)
    assert 3 == len(recorded.spans())
    assert {} == dict(device.synchronizations)
    assert {"Event.query", "Stream.query"} == {call.name for call in device.calls}
    model(x).cpu()
    assert {"MainThread": 1} == dict(device.synchronizations)


@torch.inference_mode()
def test_a_capture_is_left_alone(device, recorded):
    """A graph is captured in global mode while an inference waits for its end to be asked for."""
    model = Classifier().eval().cuda()
    x = torch.ones(2, 8, device="cuda")
    device.op_time_s = 1e-3
    torch.cuda.synchronize()
    model(x)
    graph = torch.cuda.CUDAGraph()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        graph.capture_begin()
        model(x)
        graph.capture_end()
    graph.replay()
    assert [False] == [capture.invalidated for capture in device.captures]
    assert 3e-3 == recorded.records()[0].timing.device_time_s


@torch.inference_mode()
def test_the_users_peak_is_not_stolen(device, recorded):
    """The program's own peak spans all that it did since its own reset."""
    model = Classifier().eval().cuda()
    x = torch.ones(2, 8, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    device.free(device.allocate(1 << 20))
    model(x)
    assert 5 * 512 + (1 << 20) == torch.cuda.max_memory_allocated()
    assert 7 * 512 == recorded.records()[0].memory.peak_bytes


@torch.inference_mode()
def test_out_of_memory(device, recorded):
    """The failed inference says what was asked for and what there was."""
    model = Classifier().eval().cuda()
    x = torch.ones(2, 8, device="cuda")
    device.fail_allocation(at=2)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        model(x)
    [record] = recorded.records()
    assert "torch.OutOfMemoryError" == record.error_type
    assert (2 << 20, 6 * 512, 1) == (
        record.memory.oom_requested_bytes,
        record.memory.peak_bytes,
        record.memory.allocation_retries,
    )


def test_spans_in_order_and_under_their_parents():
    """Spans of the test's own are there too, in the order of their start."""
    model = torch.nn.Linear(2, 2).eval()
    with InMemoryTelemetry() as recorded:
        tracer = recorded.tracer_provider.get_tracer("test")
        with tracer.start_as_current_span("request"), torch.inference_mode():
            model(torch.ones(1, 2))
            model(torch.ones(3, 2))
        request, first, second = recorded.spans()
        assert ["request", "forward Linear", "forward Linear"] == [
            span.name for span in (request, first, second)
        ]
        records = recorded.records()
        assert [1, 3] == [record.input.batch_size for record in records]
        assert {f"{request.context.span_id:016x}"} == {r.parent_span_id for r in records}
        assert f"{first.context.trace_id:032x}" == records[0].trace_id
    assert not warpspan.WarpspanInstrumentor().is_instrumented_by_opentelemetry


def test_metrics_by_name(device, recorded):
    """Each metric's data points stand under its name."""
    model = Classifier().eval().cuda()
    device.op_time_s = 1e-3
    with torch.inference_mode():
        model(torch.ones(2, 8, device="cuda"))
    [point] = recorded.metrics()["pytorch.inference.device.duration"]
    assert (1, 3e-3, "cuda") == (
        point.count,
        point.sum,
        point.attributes["pytorch.device.type"],
    )


def test_a_sampler_and_settings():
    """A sampler decides on the spans, settings reach the instrumentation."""
    model = torch.nn.Linear(2, 2).eval()
    x = torch.ones(1, 2)
    with InMemoryTelemetry(sampler=ALWAYS_OFF) as recorded, torch.inference_mode():
        model(x)
        assert [] == recorded.spans()
        assert [1] == [p.count for p in recorded.metrics()["pytorch.inference.duration"]]
    with (
        InMemoryTelemetry(excluded_models=["Linear"]) as recorded,
        torch.inference_mode(),
    ):
        model(x)
        assert [] == recorded.records()


def test_one_at_a_time(recorded):
    """Providers of somebody else are not replaced."""
    with pytest.raises(RuntimeError, match="instrumented already: uninstrument it first"):
        InMemoryTelemetry().__enter__()


def test_an_inference_that_does_not_end(recorded, monkeypatch):
    """Waiting in vain is an error, not an empty list."""
    with monkeypatch.context() as patch:
        patch.setattr(warpspan, "flush", lambda timeout_s: False)
        with pytest.raises(TimeoutError, match="not finished within 30"):
            recorded.spans()


def test_the_sdk_is_missing(monkeypatch):
    """One sentence says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)
    with pytest.raises(ImportError, match="needs the OpenTelemetry SDK: pip install"):
        InMemoryTelemetry()
