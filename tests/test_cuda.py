"""The CUDA path on a scripted device: whole numbers, and never a wait for the device."""

import pytest
import torch
from torch import nn

import warpspan
from warpspan import guard
from warpspan.instrumentor import active_session
from warpspan.records import Memory
from warpspan.testing import InMemoryTelemetry

MIB = 1 << 20
UUID = "00000000-0000-0000-0000-000000000001"

pytestmark = pytest.mark.scripted_device(total_memory=1 << 30)


class Kernels(nn.Module):
    """Launches kernels of the given lengths, in seconds."""

    def __init__(self, device, *lengths):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(256, 1024, device="cuda"))  # 1 MiB
        self.device, self.lengths = device, lengths
        self.eval()

    def forward(self, host_s=0.0, scratch_bytes=0):
        scratch = self.device.allocate(scratch_bytes) if scratch_bytes else None
        for length in self.lengths:
            self.device.launch(length)
        self.device.clock.advance(host_s)
        if scratch is not None:
            self.device.free(scratch)


def test_device_time_is_the_streams_and_not_the_hosts(device, recorded):
    """The call returns at once; the device works 30 ms."""
    Kernels(device, 0.010, 0.020)()
    (record,) = recorded.records()
    assert 0.0 == record.duration_s
    assert 0.030 == pytest.approx(record.timing.device_time_s)
    assert ("cuda", 0, f"GPU-{UUID}") == record.device


def test_queue_time_is_the_wait_behind_earlier_work(device, recorded):
    """Two calls at once: the second waits for all of the first."""
    model = Kernels(device, 0.010)
    model()
    model()
    first, second = recorded.records()
    assert 0.0 == pytest.approx(first.timing.queue_time_s)
    assert 0.010 == pytest.approx(second.timing.queue_time_s)
    assert 0.010 == pytest.approx(second.timing.device_time_s)


def test_queue_time_is_absent_until_the_stream_was_found_idle(device, recorded):
    """Without an anchor between the clocks there is no number to give."""
    device.launch(5.0)
    model = Kernels(device, 0.010)
    model()
    device.complete()
    device.clock.advance(2.0)
    model()
    first, second = recorded.records()
    assert None is first.timing.queue_time_s
    assert 0.0 == pytest.approx(second.timing.queue_time_s)


def test_idle_time_is_the_gap_on_the_device(device, recorded):
    """From the end of one inference to the start of the next, by the device's clock."""
    model = Kernels(device, 0.010)
    model()
    device.complete()
    device.clock.advance(0.250)
    model()
    model()
    idle = [record.timing.idle_time_s for record in recorded.records()]
    assert [None, pytest.approx(0.250), pytest.approx(0.0)] == idle


def test_work_that_still_runs_on_another_stream_leaves_no_gap(device, recorded):
    """The inference before ended on the host, not on the device."""
    long, short = Kernels(device, 0.100), Kernels(device, 0.010)
    with torch.cuda.stream(torch.cuda.Stream()):
        long()
    device.clock.advance(0.020)
    short()
    device.clock.advance(0.020)
    assert not warpspan.flush(0.0)  # the short one is done, the long one before it is not
    records = recorded.records()
    assert [None, 0.0] == [record.timing.idle_time_s for record in records]
    assert [0.1, 0.01] == [pytest.approx(record.timing.device_time_s) for record in records]


def test_a_device_that_is_lost_does_not_cost_the_span(device, recorded, monkeypatch):
    """Its times are absent. The error is the program's, so that it is no fault of ours."""
    Kernels(device, 0.010)()

    def lost(self, other):
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda.Event, "elapsed_time", lost)
    (record,) = recorded.records()
    assert None is record.timing.device_time_s
    assert {} == dict(guard.faults)


def test_memory_of_one_inference(device, recorded):
    """Before, after, exact peak and its increase, in bytes and as a share of the card."""
    model = Kernels(device)
    base = torch.cuda.memory_allocated()
    model(scratch_bytes=64 * MIB)
    (record,) = recorded.records()
    assert MIB == base
    assert record.memory == Memory(
        allocated_start_bytes=MIB,
        allocated_end_bytes=MIB,
        peak_bytes=65 * MIB,
        peak_increase_bytes=64 * MIB,
        reserved_bytes=torch.cuda.memory_reserved(),
        limit_bytes=1 << 30,
        utilization=65 / 1024,
        allocation_retries=0,
    )


def test_the_users_peak_is_what_it_would_have_been(device, recorded):
    """Whatever the inferences around it reset, also through torch.accelerator."""
    model = Kernels(device)
    torch.cuda.reset_peak_memory_stats()
    model(scratch_bytes=64 * MIB)
    model(scratch_bytes=8 * MIB)
    assert 65 * MIB == torch.cuda.max_memory_allocated()
    assert 65 * MIB == torch.cuda.memory_stats()["allocated_bytes.all.peak"]
    nested = torch.cuda.memory_stats_as_nested_dict()
    assert 65 * MIB == nested["allocated_bytes"]["all"]["peak"]
    if hasattr(torch, "accelerator") and hasattr(torch.accelerator, "max_memory_allocated"):
        assert 65 * MIB == torch.accelerator.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    assert MIB == torch.cuda.max_memory_allocated()
    model(scratch_bytes=2 * MIB)
    assert 3 * MIB == torch.cuda.max_memory_allocated()
    assert [65 * MIB, 9 * MIB, 3 * MIB] == [r.memory.peak_bytes for r in recorded.records()]


def test_running_out_of_memory(device, recorded):
    """The span has the request, the peak so far and the error; the user gets torch's own error."""
    model = Kernels(device)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"Tried to allocate 2\.00 GiB"):
        model(scratch_bytes=2 << 30)
    (record,) = recorded.records()
    assert 2 << 30 == record.memory.oom_requested_bytes
    assert MIB == record.memory.peak_bytes
    assert record.out_of_memory
    (point,) = recorded.metrics()["pytorch.inference.out_of_memory"]
    assert 1 == point.value


def test_a_real_model_computes_and_is_measured(device, recorded):
    """An unchanged module on the device: results of the CPU, batch and sequence from the shape."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 4)).eval()
    tokens = torch.randint(0, 10, (3, 5))
    with torch.no_grad():
        expected = model(tokens)
        device.op_time_s = 0.001
        actual = model.to("cuda")(tokens.to("cuda")).cpu()
    assert torch.equal(expected, actual)
    on_cpu, on_cuda = recorded.records()
    assert ("cpu", None) == (on_cpu.device.type, on_cpu.timing.device_time_s)
    assert ("cuda", 3, 5) == (
        on_cuda.device.type,
        on_cuda.input.batch_size,
        on_cuda.input.sequence_length,
    )
    assert on_cuda.timing.device_time_s > 0


def test_a_named_inference_runs_where_its_model_does(device, recorded):
    """Steps inside, device time around all of them."""
    model = Kernels(device, 0.010)
    with warpspan.inference("generate", model=model):
        model(host_s=0.001)
        model(host_s=0.001)
    (record,) = recorded.records()
    assert 0.020 == pytest.approx(record.timing.device_time_s)
    assert (2, 0.001, 0.002) == (
        record.steps.total,
        pytest.approx(record.steps.first_s),
        pytest.approx(record.steps.duration_s),
    )


def test_without_a_model_a_named_inference_runs_on_the_current_device(device, recorded):
    """CUDA is in use, so that is where it is looked for."""
    torch.zeros(1, device="cuda")
    with warpspan.inference("engine"):
        device.launch(0.010)
    (record,) = recorded.records()
    assert 0.010 == pytest.approx(record.timing.device_time_s)


def test_nobody_waits_for_the_device(device, recorded):
    """Neither the caller nor the finisher: a thousand inferences, no synchronization."""
    model = Kernels(device, 0.001)
    for _ in range(1000):
        model()
    assert 1000 == len(recorded.records())
    assert {} == dict(device.synchronizations)


@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
def test_a_capture_is_not_disturbed(device, recorded, mode):
    """No question to the driver, no event in the graph, no span for what is not run."""
    model = Kernels(device, 0.010)
    model()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode=mode):
        model()
        active_session().finisher.flush(0.0)
    assert [False] == [capture.invalidated for capture in device.captures]
    assert 1 == len(recorded.records())


def test_memory_can_be_left_alone(device):
    """`memory=False`: the allocator's counters are not touched."""
    with InMemoryTelemetry(memory=False) as recorded:
        original = torch.cuda.reset_peak_memory_stats
        model = Kernels(device)
        model(scratch_bytes=64 * MIB)
        model()
        assert torch.cuda.reset_peak_memory_stats is original
        assert 65 * MIB == torch.cuda.max_memory_allocated()
        assert [None, None] == [record.memory for record in recorded.records()]


def test_an_allocator_without_counters(device, monkeypatch, caplog):
    """A pluggable allocator has none: the span has no memory, and the log says why, once."""

    def refuse(index):
        raise RuntimeError("CUDAPluggableAllocator does not yet support getDeviceStats")

    with InMemoryTelemetry() as recorded:
        model = Kernels(device, 0.010)
        monkeypatch.setattr(torch._C, "_cuda_memoryStats", refuse)
        model()
        model()
        records = recorded.records()
    assert [None, None] == [record.memory for record in records]
    assert 0.010 == pytest.approx(records[0].timing.device_time_s)
    assert ["memory"] == list(guard.faults)
    assert 1 == len(caplog.records)
    guard.forget()


def test_events_are_used_again(device, recorded, monkeypatch):
    """The pool does not grow with the number of inferences."""
    model = Kernels(device, 0.001)
    made = []
    event = torch.cuda.Event

    def counting(*args, **kwargs):
        made.append(1)
        return event(*args, **kwargs)

    monkeypatch.setattr(torch.cuda, "Event", counting)
    for _ in range(100):
        model()
        recorded.records()
    assert len(made) <= 8


def test_the_process_ends_with_work_on_the_device(device, recorded):
    """Out of time: the span is ended without device times, and that is counted."""
    Kernels(device, 60.0)()
    finisher = active_session().finisher
    finisher._exit_timeout_s = 0.0
    finisher.drain()
    (span,) = recorded._exporter.get_finished_spans()
    assert "pytorch.device.time" not in span.attributes
    assert {"timeout": 1} == dict(finisher.dropped)


def test_a_device_that_is_lost(device, recorded, monkeypatch):
    """Its events can't be asked any more; the span is there without what they would have told."""
    model = Kernels(device, 0.010)

    def lost(event):
        raise RuntimeError("CUDA error: device unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda.Event, "query", lost)
        model()
        (record,) = recorded.records()
    assert None is record.timing.device_time_s
    assert {"device events": 1} == dict(guard.faults)
    guard.forget()
