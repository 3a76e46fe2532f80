"""Captures on a GPU: the same kernels as a full trace, the same busy time, and what they cost."""

import json
import statistics
import time

import pytest
import torch
from torch import nn

import warpspan
from warpspan.testing import InMemoryTelemetry

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.real_gpu("CUPTI"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device"),
]

LAYERS = 24


class Eager(nn.Module):
    """Many kernels, each large enough to be timed."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(1024, 1024) for _ in range(LAYERS))

    def forward(self, x):
        for layer in self.layers:
            x = torch.nn.functional.gelu(layer(x))
        return x


def eager():
    """A model that launches each kernel."""
    model, x = Eager().cuda().half().eval(), torch.rand(256, 1024, device="cuda").half()
    return lambda: model(x)


def compiled():
    """The same, compiled."""
    model, x = Eager().cuda().half().eval(), torch.rand(256, 1024, device="cuda").half()
    model = torch.compile(model)
    return lambda: model(x)


def graph():
    """The same, replayed as a CUDA graph."""
    call = eager()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    made = torch.cuda.CUDAGraph()
    with torch.cuda.graph(made):
        call()
    return made.replay


KINDS = [eager, compiled, graph]


def full_trace(call, path):
    """Kernels of one call and the length of their union in seconds, by a full trace of torch's."""
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        call()
        torch.cuda.synchronize()
    profiler.export_chrome_trace(str(path))
    kernels = sorted(
        (event["ts"], event["ts"] + event["dur"])
        for event in json.loads(path.read_text())["traceEvents"]
        if event.get("cat") == "kernel"
    )
    busy, until = 0.0, 0.0
    for start, end in kernels:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return len(kernels), busy / 1e6


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_counts_and_busy_time_are_those_of_a_full_trace(kind, tmp_path):
    """The same number of kernels, and medians of the busy time within 1 %."""
    call = kind()
    for _ in range(20):
        call()
    traced = [full_trace(call, tmp_path / f"{number}.json") for number in range(9)]
    with InMemoryTelemetry() as telemetry:
        for _ in range(20):
            call()
        for _ in range(9):
            with warpspan.capture():
                call()
                torch.cuda.synchronize()
            warpspan.flush()
        profiles = [one.profile for one in telemetry.records() if one.profile is not None]
    assert 9 == len(profiles)
    assert {count for count, _ in traced} == {one.kernel_count for one in profiles}
    assert statistics.median(busy for _, busy in traced) == pytest.approx(
        statistics.median(one.busy_s for one in profiles), rel=0.01
    )


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_the_cost_inside_and_after(kind, record_property):
    """Published in gpu-check.json: times never profiled, inside a capture, and after one."""

    def median_us():
        times = []
        for _ in range(200):
            torch.cuda.synchronize()
            began = time.perf_counter_ns()
            call()
            torch.cuda.synchronize()
            times.append((time.perf_counter_ns() - began) / 1e3)
        return statistics.median(times)

    call = kind()
    with InMemoryTelemetry() as telemetry:
        median_us()
        costs = {"never": median_us()}
        with warpspan.capture():
            costs["inside"] = median_us()
        warpspan.flush()
        costs["after"] = median_us()
        assert 200 == sum(one.profile is not None for one in telemetry.records())
    record_property(f"capture_{kind.__name__}_us", costs)
    assert all(cost > 0 for cost in costs.values())
