"""On a real device: no capture is disturbed, and replays are measured."""

import contextlib
import ctypes
import threading

import pytest
import torch
from torch import nn

import warpspan
from warpspan import guard
from warpspan.testing import InMemoryTelemetry

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device"),
]

MODES = ("global", "thread_local", "relaxed")
CAPTURES = 20
WAIT_S = 60.0
# torch captures on a stream of its own and keeps the nodes of autograd that it made there.
OTHER_STREAM = pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream:UserWarning")


class Mlp(nn.Sequential):
    def __init__(self, width=1024, depth=4):
        super().__init__(*(nn.Linear(width, width, device="cuda") for _ in range(depth)))


class InPlace(nn.Module):
    """Allocates nothing: another thread's allocation breaks a capture in global mode by itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1 << 20, device="cuda"))
        self.result = torch.empty(1 << 20, device="cuda")

    def forward(self):
        return torch.mul(self.weight.detach(), 2.0, out=self.result)


@pytest.fixture
def telemetry():
    guard.forget()
    with InMemoryTelemetry(sample_period_s=0.1) as entered:
        yield entered
    assert {} == dict(guard.faults)


@pytest.fixture
def model():
    return Mlp().half().eval()


@pytest.fixture
def batch():
    return torch.randn(64, 1024, device="cuda", dtype=torch.float16)


def capture(function, *args, **options):
    """A graph of a call, warmed up on another stream as torch asks for, and what it gave."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function(*args)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, **options):
        output = function(*args)
    return graph, output


@contextlib.contextmanager
def another_thread(work):
    """Does the work again and again inside the block, slower than inferences are finished."""
    stop, errors = threading.Event(), []

    def run():
        try:
            with torch.inference_mode():
                while not stop.wait(0.001):
                    work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(WAIT_S)
    assert [] == errors


@pytest.mark.values
@pytest.mark.parametrize("mode", MODES)
@torch.inference_mode()
def test_captures_succeed_beside_a_thread_that_infers(telemetry, model, batch, mode):
    """Its events are made and recorded meanwhile, finished by a third, sampled by a fourth."""
    busy = InPlace().eval()
    busy()
    eager = model(batch)
    torch.cuda.synchronize()
    with another_thread(busy):
        for _ in range(CAPTURES):
            graph, captured = capture(model, batch, capture_error_mode=mode)
            graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(eager, captured)
    records = telemetry.records()
    assert CAPTURES == sum(record.operation == "graph_replay" for record in records)
    assert None not in [record.timing.device_time_s for record in records]


@pytest.mark.parametrize("mode", MODES)
@torch.inference_mode()
def test_captures_succeed_beside_a_thread_that_flushes(telemetry, model, batch, mode):
    """Inferences wait to be finished when the capture begins."""
    torch.cuda.synchronize()
    with another_thread(lambda: warpspan.flush(0.001)):
        for _ in range(CAPTURES):
            torch.cuda._sleep(1_000_000)
            model(batch)
            capture(model, batch, capture_error_mode=mode)


@pytest.mark.skipif(torch.version.hip is not None, reason="ROCm has no mode of the thread's own")
@pytest.mark.parametrize("mode", range(3))
@torch.inference_mode()
def test_a_capture_that_python_does_not_see(telemetry, model, batch, mode):
    """As C++ code begins one: the mode of the thread that asks keeps its questions harmless."""
    driver = ctypes.CDLL("libcuda.so.1")
    busy = InPlace().eval()
    busy()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    handle, graph = ctypes.c_void_p(stream.cuda_stream), ctypes.c_void_p()
    for _ in range(CAPTURES):
        torch.cuda._sleep(1_000_000)
        model(batch)
        with torch.cuda.stream(stream):
            assert 0 == driver.cuStreamBeginCapture_v2(handle, mode)
            torch.mul(busy.weight, 2.0, out=busy.result)
            flushing = threading.Thread(target=warpspan.flush, args=(0.02,))
            flushing.start()
            flushing.join(WAIT_S)
            assert 0 == driver.cuStreamEndCapture(handle, ctypes.byref(graph))
        assert 0 == driver.cuGraphDestroy(graph)
        torch.cuda.synchronize()


@torch.inference_mode()
def test_a_replay_takes_the_time_of_its_kernels(telemetry, model, batch, record_property):
    """Two events of the test's own around it see the same."""
    graph, _ = capture(model, batch)
    first = len(telemetry.records())
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(20_000_000)  # so that the host is ahead of the device
    start.record()
    graph.replay()
    end.record()
    torch.cuda.synchronize()
    (record,) = telemetry.records()[first:]
    record_property("replay_s", record.timing.device_time_s)
    assert ("graph_replay", "Mlp", 64) == (
        record.operation,
        record.model.name,
        record.input.batch_size,
    )
    assert start.elapsed_time(end) / 1e3 == pytest.approx(
        record.timing.device_time_s, rel=0.2, abs=20e-6
    )


@torch.inference_mode()
def test_a_replay_synchronizes_nothing(telemetry, model, batch, no_waits):
    """torch raises at any synchronizing call of the caller's thread."""
    graph, _ = capture(model, batch)
    torch.cuda.synchronize()
    with no_waits():
        graph.replay()


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty:UserWarning")  # torch's own, at first
@pytest.mark.values
@torch.inference_mode()
def test_reduce_overhead_is_one_inference_a_call(telemetry, batch):
    """Warm-up, capture and replays are inside the model's call; the results are the eager ones."""
    model = Mlp().half().eval()
    eager = model(batch)
    first = len(telemetry.records())
    compiled = torch.compile(model, mode="reduce-overhead")
    for _ in range(6):
        torch.compiler.cudagraph_mark_step_begin()
        output = compiled(batch).clone()
    torch.testing.assert_close(eager, output, rtol=1e-2, atol=1e-2)
    records = telemetry.records()[first:]
    assert [("forward", "Mlp", True)] * 6 == [
        (record.operation, record.model.name, record.model.compiled) for record in records
    ]
    assert 0.0 < records[-1].timing.device_time_s


@pytest.mark.real_gpu("machine code of Triton's kernels")
@torch.inference_mode()
def test_reduce_overhead_of_a_function_is_a_replay(telemetry, model, batch):
    """It has no module call; what is outermost is the replay of its graph."""
    expected = model(batch) + 1
    function = torch.compile(lambda x: model(x) + 1, mode="reduce-overhead")
    for _ in range(4):
        torch.compiler.cudagraph_mark_step_begin()
        output = function(batch).clone()
    first = len(telemetry.records())
    torch.compiler.cudagraph_mark_step_begin()
    output = function(batch).clone()
    torch.testing.assert_close(expected, output, rtol=1e-2, atol=1e-2)
    assert ["graph_replay"] == [record.operation for record in telemetry.records()[first:]]


@OTHER_STREAM
@pytest.mark.values
def test_make_graphed_callables(telemetry):
    """A module's forward is its call as before, a backward nothing; results are the eager ones."""
    x = torch.randn(64, 1024, device="cuda", requires_grad=True)
    model = Mlp().eval()
    with torch.no_grad():  # else the autograd node of x is tied to the default stream
        eager = model(x)
    graphed = torch.cuda.make_graphed_callables(Mlp().eval(), (x,))
    graphed.load_state_dict(model.state_dict())
    first = len(telemetry.records())
    output = graphed(x)
    output.sum().backward()
    torch.cuda.synchronize()
    torch.testing.assert_close(eager, output)
    assert [("forward", "Mlp")] == [
        (record.operation, record.model.name) for record in telemetry.records()[first:]
    ]


@OTHER_STREAM
def test_make_graphed_callables_in_training(telemetry):
    """Nothing of it is an inference."""
    x = torch.randn(64, 1024, device="cuda", requires_grad=True)
    graphed = torch.cuda.make_graphed_callables(Mlp().train(), (x,))
    first = len(telemetry.records())
    graphed(x).sum().backward()
    torch.cuda.synchronize()
    assert [] == telemetry.records()[first:]
