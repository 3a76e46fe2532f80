"""On a real device: what a span says equals what torch's own tools say."""

import pytest
import torch
from torch import nn

import warpspan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device"),
]


class Mlp(nn.Sequential):
    def __init__(self, width=4096, depth=8):
        super().__init__(*(nn.Linear(width, width, device="cuda") for _ in range(depth)))


@pytest.fixture
def model():
    return Mlp().half().eval()


@pytest.fixture
def batch():
    return torch.randn(2048, 4096, device="cuda", dtype=torch.float16)


@pytest.mark.real_gpu("CUPTI")
@torch.inference_mode()
def test_device_time_is_that_of_the_profilers_kernels(telemetry, model, batch):
    """A GPU-bound model: the events enclose the kernels and little else."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(3):
        model(batch)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        model(batch)
        torch.cuda.synchronize()
    kernels_s = sum(event.self_device_time_total for event in profiled.key_averages()) / 1e6
    record = telemetry.records()[-1]
    assert kernels_s == pytest.approx(record.timing.device_time_s, rel=0.10)


@torch.inference_mode()
def test_the_peak_is_torchs_own(telemetry, model, batch):
    """To the byte, against a run in which nobody else resets the counter."""
    model(batch)
    telemetry.records()
    warpspan.WarpspanInstrumentor().uninstrument()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    model(batch)
    expected = torch.cuda.max_memory_allocated()
    warpspan.WarpspanInstrumentor().instrument(tracer_provider=telemetry.tracer_provider)
    torch.empty(1 << 28, device="cuda")  # a higher peak before the inference
    model(batch)
    assert expected == telemetry.records()[-1].memory.peak_bytes


@torch.inference_mode()
def test_the_users_counter_is_untouched(telemetry, model, batch):
    """A peak between two resets of the user's, with inferences that reset the raw one inside."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    del_me = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    del del_me
    model(batch)
    model(batch)
    assert before + (1 << 30) == torch.cuda.max_memory_allocated()


@torch.inference_mode()
def test_queue_time_is_the_wait_behind_a_long_kernel(telemetry, model, batch):
    """A kernel that only sleeps holds the stream for a known time."""
    model(batch)
    torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    torch.cuda._sleep(200_000_000)
    end.record()
    model(batch)
    record = telemetry.records()[-1]
    assert start.elapsed_time(end) / 1e3 == pytest.approx(record.timing.queue_time_s, rel=0.10)


@torch.inference_mode()
def test_nothing_synchronizes(telemetry, model, batch, no_waits):
    """torch raises at any synchronizing call of the caller's thread."""
    model(batch)
    torch.cuda.synchronize()
    with no_waits():
        model(batch)
    assert 2 == len(telemetry.records())


@pytest.mark.values
@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
@torch.inference_mode()
def test_captures_succeed_while_the_finisher_works(telemetry, mode):
    """Inferences wait to be finished while another graph is captured, many times over."""
    model = Mlp(width=256).half().eval()
    batch = torch.randn(32, 256, device="cuda", dtype=torch.float16)
    for _ in range(3):
        model(batch)
    torch.cuda.synchronize()
    eager = model(batch)
    for _ in range(20):
        model(batch)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode=mode):
            captured = model(batch)
        graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(eager, captured)


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty:UserWarning")  # torch's own, at first
@torch.inference_mode()
def test_reduce_overhead_compiles_and_is_measured(telemetry, batch):
    """torch.compile captures CUDA graphs inside the call."""
    compiled = torch.compile(Mlp(depth=2).half().eval(), mode="reduce-overhead")
    for _ in range(5):
        torch.compiler.cudagraph_mark_step_begin()
        compiled(batch)
    record = telemetry.records()[-1]
    assert ("Mlp", True) == (record.model.name, record.model.compiled)
    assert record.timing.device_time_s > 0


@torch.inference_mode()
def test_out_of_memory(telemetry):
    """The request that failed and the peak until then."""

    class Greedy(nn.Linear):
        def forward(self, x):
            torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
            return torch.empty(1 << 45, dtype=torch.uint8, device="cuda")

    model = Greedy(2, 2).cuda().eval()
    before = torch.cuda.memory_allocated()
    with pytest.raises(torch.cuda.OutOfMemoryError):
        model(torch.zeros(1, 2, device="cuda"))
    (record,) = telemetry.records()
    assert 1 << 45 == record.memory.oom_requested_bytes
    assert record.memory.peak_bytes >= before + (1 << 28)


def test_the_device_is_named_as_the_driver_names_it(telemetry, model, batch):
    """UUID and total memory."""
    with torch.inference_mode():
        model(batch)
    (record,) = telemetry.records()
    properties = torch.cuda.get_device_properties(0)
    assert properties.total_memory == record.memory.limit_bytes
    if hasattr(properties, "uuid"):
        assert f"GPU-{properties.uuid}" == record.device.id
