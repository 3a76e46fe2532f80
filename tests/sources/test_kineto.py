"""Traces of PyTorch's profiler, of every version: events made by hand and by torch itself."""

from __future__ import annotations

import json

import pytest
import torch
from kineto_trace import KinetoTrace, read_bytes
from torch.profiler import ProfilerActivity, profile, record_function

from warpspan.records import Device, Memory, Syncs, Timing, Transfer, Transfers
from warpspan.records.syncs import SyncKind
from warpspan.sources.traces import TraceError


def forward() -> KinetoTrace:
    """A module that launches two kernels and copies its result back."""
    trace = KinetoTrace(
        deviceProperties=[{"id": 0, "name": "NVIDIA H100", "totalGlobalMem": 1000}],
        baseTimeNanoseconds=1_000_000,
    )
    trace.module("Net", 100, 100)
    trace.op("aten::mm", 110, 10)
    trace.work(150, 10, launch=112, name="sm90_xmma_gemm")
    trace.op("aten::relu", 125, 10)
    trace.work(170, 20, launch=127, name="relu", **{"est. achieved occupancy %": 50})
    trace.op("aten::copy_", 140, 55)
    trace.work(
        190, 2, launch=141, name="Memcpy DtoH (Device -> Pageable)", cat="gpu_memcpy",
        call="cudaMemcpyAsync", bytes=64,
    )  # fmt: skip
    trace.call("cudaStreamSynchronize", 144, 50, correlation=99)
    return trace


def test_a_forward_becomes_an_inference():
    """With its times on host and device, what it copied, and what it waited for."""
    (one,) = forward().read().inferences

    inference = one.inference
    assert ("forward", "Net", Device("cuda", 0), 1_100_000, pytest.approx(1e-4)) == (
        inference.operation,
        inference.model.name,
        inference.device,
        inference.start_ns,
        inference.duration_s,
    )
    assert Timing(device_time_s=42e-6, queue_time_s=50e-6) == inference.timing
    expected = Transfer(1, 64, 64, None, 2e-6, pytest.approx(32e6), pytest.approx(2 / 42))
    assert Transfers(d2h=expected) == inference.transfers
    assert (Syncs(1, 5e-5, "copy", 5e-5, kinds=(SyncKind("copy", 1, 5e-5),))) == inference.syncs
    assert "trace.json" == inference.process


def test_the_work_of_an_inference_is_added_up():
    """Busy time is the union, idle what lies between, waits count where the device is idle."""
    (one,) = forward().read().inferences
    (work,) = one.work

    assert (pytest.approx(32e-6), pytest.approx(2e-6), pytest.approx(10e-6)) == (
        work.busy_s,
        work.copies_alone_s,
        work.idle_s,
    )
    assert (2, 3, 0, 1) == (
        work.kernel_count,
        work.launch_count,
        work.graph_launch_count,
        work.gap_count,
    )
    assert (pytest.approx(1 / 3), 0.5) == (work.tensor_core_share, work.occupancy)
    assert [("relu", "aten::relu", 1), ("sm90_xmma_gemm", "aten::mm", 1)] == [
        kernel[:3] for kernel in work.kernels
    ]
    assert [("d2h", "pageable", 1, 64, 2e-6)] == [tuple(copy) for copy in work.copies]
    (wait,) = one.waits
    # Of 144 to 194 the device works from 150 to 160 and from 170 to 192.
    assert ("copy", "cudaStreamSynchronize", 1, 5e-5, pytest.approx(18e-6)) == wait[:5]


def test_names_of_torch_1_9_are_read():
    """Its categories are capitalized, its ids written small, its times absolute and whole."""
    start = 1_695_835_542_514_261
    events = [
        {"ph": "X", "cat": "Operator", "name": "aten::mm", "pid": 7, "tid": "7", "ts": start,
         "dur": 50, "args": {"external id": 3, "Input dims": [[2, 3], [3, 4]],
                             "Input type": ["float", "float"]}},
        {"ph": "X", "cat": "Runtime", "name": "cudaLaunchKernel", "pid": 7, "tid": "7",
         "ts": start + 5, "dur": 3, "args": {"external id": 3, "correlation": 12}},
        {"ph": "X", "cat": "Kernel", "name": "volta_sgemm", "pid": 0, "tid": "stream 7",
         "ts": start + 20, "dur": 10, "args": {"device": 0, "stream": 7, "correlation": 12}},
        {"ph": "X", "cat": "Memset", "name": "Memset (Device)", "pid": 0, "tid": "stream 7",
         "ts": start + 30, "dur": 5, "args": {"device": 0, "stream": 7, "correlation": 99}},
    ]  # fmt: skip

    trace = read_bytes(json.dumps({"schemaVersion": 1, "traceEvents": events}).encode()).trace

    (line,) = trace.devices
    assert [((start + 20) * 1000, (start + 35) * 1000)] == list(line.busy)
    (kernel,) = line.kernels
    assert ("volta_sgemm", "aten::mm", 1, 1e-5, False, "f32[2,3] f32[3,4]") == kernel


def test_times_in_nanoseconds_are_recognized():
    """As microseconds they would lie in a far future."""
    trace = KinetoTrace(baseTimeNanoseconds=5)
    trace.op("aten::mm", 1_700_000_000_000_000_000, 500)
    trace.work(1_700_000_000_000_000_100, 300, launch=1_700_000_000_000_000_010)

    read = trace.read()

    assert (0, 300) == (read.epoch_ns, read.devices[0].busy.total_ns)


def test_rocm_gives_what_cuda_does():
    """Its calls are named hip, its devices are numbered by another count."""
    trace = KinetoTrace(deviceProperties=[{"id": 0, "name": "AMD Instinct MI300X"}])
    trace.module("Net", 100, 100)
    trace.op("aten::item", 105, 60)
    trace.work(
        150, 10, launch=110, device=9, cat="gpu_memcpy", name="Memcpy DtoH (Device -> Host)",
        call="hipMemcpyWithStream", bytes=4,
    )  # fmt: skip

    read = trace.read()

    (line,) = read.devices
    assert (Device("cuda", 9), "AMD Instinct MI300X") == (line.device, line.name)
    (wait,) = read.inferences[0].waits
    assert ("item", "hipMemcpyWithStream", 1) == wait[:3]
    # The trace does not tell pageable memory from pinned.
    assert (4, None) == read.inferences[0].inference.transfers.d2h[1:3]


def test_memory_is_what_the_allocator_held():
    """The peak inside, from what was held before."""
    trace = forward()
    for ts, allocated in ((90, 100), (120, 700), (150, 300)):
        trace.events.append(
            {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "pid": 1, "tid": 1,
             "ts": ts, "args": {"Total Allocated": allocated, "Total Reserved": 900,
                                "Device Type": 1, "Device Id": 0}}
        )  # fmt: skip

    (one,) = trace.read().inferences

    expected = Memory(100, 300, 700, 600, 900, 1000)
    assert expected == one.inference.memory


def test_values_that_can_not_be_right_cost_their_event():
    """NaN, a text for a time, a negative duration: counted, and the rest is read."""
    trace = forward()
    for ts, dur in ((float("nan"), 1), ("x", 1), (1, -1), (1e300, 1), (None, 1), (1, 10**30)):
        trace.work(ts, dur)
    trace.events.append({"ph": "X", "cat": "kernel", "name": "k", "ts": 1, "dur": 1, "args": [1]})

    file = read_bytes(trace.json().encode())

    assert (7, pytest.approx(32e-6)) == (file.broken_count, file.trace.devices[0].busy.total_s)


def test_kernels_of_another_process_with_the_same_numbers_are_told_apart():
    """Several traces in one file use the same correlations; the launch before the work counts."""
    trace = KinetoTrace()
    for start, tid in ((100, 1), (1000, 2)):
        trace._correlation = 0
        trace.module("Net", start, 50, tid=tid)
        trace.work(start + 20, 10, launch=start + 5, tid=tid)

    counts = [one.work[0].kernel_count for one in trace.read().inferences]

    assert [1, 1] == counts


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"schemaVersion": 1, "x": [', "trace.json has no traceEvents"),
        ('{"traceEvents": []}', "trace.json is a trace without any event"),
        (
            '{"traceEvents": [{"ph": "X", "cat": "gfx", "name": "x", "ts": 1, "dur": 1}]}',
            "trace.json is a trace in Chrome's format, but not of PyTorch's profiler",
        ),
        (
            '{"traceEvents": [{"ph": "X", "cat": "kernel", "name": "x", "ts": null}]}',
            "the values of all 1 events in trace.json are broken",
        ),
        ('{"traceEvents": [{"ph": "M", "name": "x"}]}', "trace.json has no operator"),
    ],
)
def test_a_trace_without_anything_to_report_is_said(text, sentence):
    """One sentence says what the file is."""
    with pytest.raises(TraceError, match="^" + sentence.replace(".", r"\.")):
        read_bytes(text.encode())


def test_a_trace_of_torch_itself_is_read(tmp_path):
    """On the CPU: modules, operators by their own time, shapes and memory, and no device."""
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU()).eval()
    options = {"record_shapes": True, "profile_memory": True, "with_stack": True}
    with profile(activities=[ProfilerActivity.CPU], **options) as profiler, torch.no_grad():
        for _ in range(3):
            model(torch.rand(4, 8))
    path = tmp_path / "trace.json"
    profiler.export_chrome_trace(str(path))

    file = read_bytes(path.read_bytes())

    found = [(one.inference.operation, one.inference.model.name) for one in file.trace.inferences]
    assert [("forward", "Sequential")] * 3 == found
    coverage = file.trace.coverage
    assert (False, True, True, True) == coverage[:4]
    for one in file.trace.inferences:
        assert "cpu" == one.inference.device.type
        assert "aten::addmm" in {operator.name for operator in one.operators}
        assert one.inference.memory.peak_bytes >= 0
    assert (0, False) == (file.broken_count, file.cut)


def test_annotations_of_torch_itself_are_inferences(tmp_path):
    """Without Python functions, what the program names is what ran."""
    model = torch.nn.Linear(8, 16)
    with profile(activities=[ProfilerActivity.CPU]) as profiler, torch.no_grad():
        for _ in range(2):
            with record_function("model_inference"):
                model(torch.rand(4, 8))
    path = tmp_path / "trace.json"
    profiler.export_chrome_trace(str(path))

    found = [
        (one.inference.operation, one.found_by)
        for one in read_bytes(path.read_bytes()).trace.inferences
    ]

    assert [("model_inference", "annotation")] * 2 == found


def test_training_by_torch_itself_is_no_inference(tmp_path):
    """A backward pass follows: one step for each time the optimizer steps."""
    model = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with profile(activities=[ProfilerActivity.CPU], with_stack=True) as profiler:
        for _ in range(3):
            model(torch.rand(4, 8)).sum().backward()
            optimizer.step()
        with torch.no_grad():
            model(torch.rand(4, 8))
    path = tmp_path / "trace.json"
    profiler.export_chrome_trace(str(path))

    trace = read_bytes(path.read_bytes()).trace

    assert (3, 1) == (trace.training_steps, len(trace.inferences))
