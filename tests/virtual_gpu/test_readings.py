"""Readings whose truth only torch's own allocator, queues, graphs and errors have."""

import os
import subprocess
import sys
import threading
import time

import pytest
import torch
from torch import nn

import warpspan
from virtual_gpu import Kind, uuid
from warpspan import guard
from warpspan.testing import InMemoryTelemetry

pytestmark = [pytest.mark.gpu]
MIB = 1 << 20
ILLEGAL_ADDRESS = 700


class Takes(nn.Module):
    """Calls a function inside its forward pass."""

    def __init__(self, function):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(64, device="cuda"))
        self.function = function

    def forward(self, x):
        self.function()
        return x


def infer(function):
    with torch.inference_mode():
        model = Takes(function)
        model(model.weight)


def script(text, **environment):
    """What a program prints that has the virtual GPU in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout.split()


def test_the_device_has_one_name_everywhere(telemetry):
    """On the span, in torch and in the driver; torch knows it from 2.5 on."""
    pynvml = pytest.importorskip("pynvml")
    infer(lambda: None)
    pynvml.nvmlInit()
    driver = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0))
    known = hasattr(torch.cuda.get_device_properties(0), "uuid")
    assert [uuid(0) if known else None, driver] == [telemetry.records()[-1].device.id, uuid(0)]


def test_threads_have_their_own_times(gpu, telemetry):
    """Each inference has the kernels of its own stream, whatever the others do meanwhile."""
    streams = [torch.cuda.Stream() for _ in range(4)]
    barrier = threading.Barrier(len(streams))

    def work(index):
        def launch():
            gpu.launch("step", 10e-3 * (index + 1), streams[index].cuda_stream)

        barrier.wait(30)
        with torch.cuda.stream(streams[index]), warpspan.inference(f"thread {index}"):
            launch()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(streams))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    times = {r.operation: r.timing.device_time_s for r in telemetry.records()}
    lines = {line.stream: line for line in gpu.timeline() if line.name == "step"}
    for index, stream in enumerate(streams):
        assert lines[stream.cuda_stream].duration_s <= times[f"thread {index}"]
    assert times["thread 0"] < lines[streams[3].cuda_stream].duration_s


def test_a_full_launch_queue_makes_the_host_wait(gpu, telemetry):
    """The time is the inference's own, and no wait of the program's."""
    gpu.queue_depth(4)

    def launch():
        for _ in range(12):
            gpu.launch("step", 5e-3)

    with gpu.recording() as lines:
        infer(launch)
    record = telemetry.records()[-1]
    waited_s = sum(line.duration_s for line in lines if line.name == "launch queue")
    assert 0 < waited_s <= record.duration_s
    assert record.syncs is None


def test_kernels_of_two_streams_share_an_exclusive_device(gpu, telemetry):
    """Of two inferences at once, the second one's kernel begins when the first one's ends."""
    gpu.exclusive(True)
    streams = [torch.cuda.Stream() for _ in range(2)]
    for index, stream in enumerate(streams):
        with torch.cuda.stream(stream), warpspan.inference(f"stream {index}"):
            gpu.launch("step", 30e-3, stream.cuda_stream)
    first, second = [line for line in gpu.timeline() if line.name == "step"][-2:]
    assert first.end_ns <= second.begin_ns
    times = {r.operation: r.timing.device_time_s for r in telemetry.records()}
    assert second.duration_s < times["stream 1"]


def test_a_replay_has_the_time_of_its_nodes(gpu, telemetry):
    """From the first kernel's begin to the last one's end."""
    x = torch.ones(4, device="cuda")
    gpu.kernel_time("elementwise", 5e-3)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(4):
            x = x + 1
    torch.cuda.synchronize()
    with gpu.recording() as lines:
        began_ns = time.perf_counter_ns()
        graph.replay()
        ended_ns = time.perf_counter_ns()
    nodes = [line for line in lines if line.kind is Kind.KERNEL and line.replayed]
    assert 4 == len(nodes)
    span_s = (nodes[-1].end_ns - nodes[0].begin_ns) / 1e9
    record = telemetry.records()[-1]
    assert "graph_replay" == record.operation
    most_s = (max(nodes[-1].end_ns, ended_ns) - began_ns) / 1e9
    assert span_s - 2e-6 <= record.timing.device_time_s <= most_s


def test_an_out_of_memory_error_is_torchs_own(gpu, telemetry):
    """Its class, what was asked for, and the peak until then."""
    before = torch.cuda.memory_allocated()
    kept = []
    gpu.memory(2 << 30)

    def greedy():
        kept.append(torch.empty(512 * MIB, dtype=torch.uint8, device="cuda"))
        torch.empty(4 << 30, dtype=torch.uint8, device="cuda")

    with pytest.raises(torch.OutOfMemoryError):
        infer(greedy)
    record = telemetry.records()[-1]
    assert ("torch.OutOfMemoryError", 4 << 30, 512 * MIB) == (
        record.error_type,
        record.memory.oom_requested_bytes,
        record.memory.peak_bytes - before - 512,  # and the weight
    )


MEMORY = """
import torch
from warpspan.testing import InMemoryTelemetry
model = torch.nn.Linear(8, 8, device="cuda").eval()
with InMemoryTelemetry(sample_period_s=0) as telemetry, torch.inference_mode():
    model(torch.ones(8, 8, device="cuda"))
    memory = telemetry.records()[0].memory
names = ("peak_bytes", "allocated_start_bytes", "allocated_end_bytes", "reserved_bytes")
print(*(getattr(memory, name, None) for name in names))
"""


def test_an_allocator_without_counters_gives_no_memory():
    """Torch counts nothing without its cache: the bytes are absent and not 0."""
    assert ["None"] * 4 == script(MEMORY, PYTORCH_NO_CUDA_MEMORY_CACHING="1")


STICKY = """
import torch
from virtual_gpu import VirtualGpu
from warpspan import guard
from warpspan.testing import InMemoryTelemetry
gpu = VirtualGpu()

class Broken(torch.nn.Linear):
    def forward(self, x):
        gpu.sticky(700)
        return super().forward(x)

model, x = Broken(8, 8, device="cuda").eval(), torch.ones(8, 8, device="cuda")
with InMemoryTelemetry(sample_period_s=0) as telemetry, torch.inference_mode():
    for _ in range(3):
        try:
            model(x)
        except RuntimeError as error:
            kind = type(error)
            print(f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."))
    errors = [record.error_type for record in telemetry.records()]
    gpu.sticky(0)
print(*errors, sum(guard.faults.values()))
"""


def test_a_lost_device_is_the_programs_error_alone():
    """After an illegal access of the program's, each inference fails by it; none of it is ours."""
    said = script(STICKY)
    assert [*said[:3], *said[:3], "0"] == said


FORK = """
import os
import torch
import warpspan
from warpspan import guard
from warpspan.testing import InMemoryTelemetry
model, x = torch.nn.Linear(8, 8).eval(), torch.ones(8, 8)
on_device = torch.nn.Linear(8, 8, device="cuda").eval()
with InMemoryTelemetry(sample_period_s=0) as telemetry, torch.inference_mode():
    on_device(x.cuda())
    if (child := os.fork()) == 0:
        model(x)
        print("child", warpspan.flush(10), sum(guard.faults.values()), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    on_device(x.cuda())
    print("parent", len(telemetry.records()), sum(guard.faults.values()))
"""


def test_a_child_of_a_process_that_used_the_device():
    """It may use the CPU alone, and nothing of ours asks the device there."""
    assert ["child", "True", "0", "parent", "2", "0"] == script(FORK)


def test_expandable_segments_have_the_same_peak():
    """Torch's other way to get memory: by the driver's virtual memory management."""
    plain = script(MEMORY)
    expanded = script(MEMORY, PYTORCH_CUDA_ALLOC_CONF="expandable_segments:True")
    assert plain[:3] == expanded[:3]


def test_energy_is_what_the_driver_counted(gpu):
    """Joules of the spans and of the time between them are the counter's."""
    pynvml = pytest.importorskip("pynvml")
    guard.forget()
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    with InMemoryTelemetry(sample_period_s=0.1) as telemetry:
        infer(lambda: gpu.launch("step", 0.3))
        torch.cuda.synchronize()
        before_j = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
        for _ in range(4):
            infer(lambda: gpu.launch("step", 0.2))
            torch.cuda.synchronize()
        after_j = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
        usages = [record.usage for record in telemetry.records()[1:]]
    spans_j = sum(usage.energy_j for usage in usages)
    assert 0.8 * 400 * 0.8 < spans_j <= 1.1 * (after_j - before_j)
    assert {} == dict(guard.faults)


UNSEEN = {
    "a list as an index": lambda x: x[[0, 1]],
    "an index on the CPU": lambda x: x[torch.tensor([0, 1])],
    "assignment from the CPU": lambda x: x.__setitem__(slice(0, 8), torch.ones(8)),
    "data to the device": lambda x: torch.tensor([1.0] * 64, device="cuda"),
    "empty_cache": lambda x: torch.cuda.empty_cache(),
}


@pytest.mark.parametrize("case", UNSEEN)
def test_waits_that_docs_compatibility_names_as_unseen(gpu, telemetry, case):
    """The host waits in these for the device, and the span says nothing of it."""
    x = torch.ones(64, device="cuda")
    freed = torch.empty(64 * MIB, dtype=torch.uint8, device="cuda")
    del freed

    def wait():
        gpu.launch("step", 10e-3)
        UNSEEN[case](x)

    with gpu.recording() as lines:
        infer(wait)
    (step,) = [line for line in lines if line.name == "step"]
    waits = [line for line in lines if line.kind is Kind.WAIT and line.end_ns >= step.end_ns]
    assert (True, None) == (bool(waits), telemetry.records()[-1].syncs)
