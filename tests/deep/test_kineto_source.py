"""torch's own profiler, for real, on the CPU: what a capture has, and when it yields."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

import warpspan
from warpspan.deep import kineto_source
from warpspan.records import Profile
from warpspan.sources.traces import head_of, read_trace
from warpspan.testing import InMemoryTelemetry

pytestmark = pytest.mark.skipif(
    not kineto_source.sees_all_threads(), reason="this torch can't see operators of other threads"
)


class Two(nn.Module):
    """Two linear layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.eval()

    def forward(self, x):
        return self.second(self.first(x).relu())


@pytest.fixture
def run():
    """Runs a model once, without gradients."""
    model, x = Two(), torch.rand(2, 8)

    def run():
        with torch.inference_mode():
            return model(x)

    return run


def profiles(telemetry):
    """What each inference has of a capture."""
    return [record.profile for record in telemetry.records()]


def operators(profile):
    """How often each operator ran."""
    return {one.name: one.total for one in profile.operators}


def test_operators_of_each_inference_in_a_block(run):
    """Each inference inside has its own operators, and those outside have none."""
    with InMemoryTelemetry() as telemetry:
        run()
        with warpspan.capture():
            run()
            run()
        run()
        found = profiles(telemetry)
    assert [False, True, True, False] == [one is not None for one in found]
    for profile in found[1:3]:
        assert 2 == operators(profile)["aten::addmm"]
        assert all(one.time_s > 0 for one in profile.operators)
        assert profile == Profile(operators=profile.operators)


def test_the_trace_is_kept_and_linked(run, tmp_path):
    """With a directory the span names a trace that our own report reads: one inference each."""
    with InMemoryTelemetry(deep_directory=str(tmp_path / "traces")) as telemetry:
        with warpspan.capture():
            run()
            run()
        (first, second) = telemetry.records()
    (path,) = (tmp_path / "traces").iterdir()
    assert [str(path)] * 2 == [first.profile.trace, second.profile.trace]
    assert path.name.endswith(".pt.trace.json.gz")
    with path.open("rb") as stream:
        trace = read_trace(stream, path.name, head_of(path)).trace
    assert [("forward Two", "annotation")] * 2 == [
        (one.inference.operation, one.found_by) for one in trace.inferences
    ]
    assert [first.start_ns, second.start_ns] == pytest.approx(
        [one.inference.start_ns for one in trace.inferences], abs=1000
    )
    with gzip.open(path) as stream:
        events = json.load(stream)["traceEvents"]
    assert [{"trace_id": one.trace_id, "span_id": one.span_id} for one in (first, second)] == [
        event["args"] for event in events if event.get("cat") == "user_annotation"
    ]


def test_each_thread_has_its_own_operators():
    """Inferences that run at once on two threads have each the operators of their own."""
    both, read = threading.Barrier(2), threading.Event()

    class Waits(nn.Linear):
        def forward(self, x):
            both.wait()
            for _ in range(x.shape[0]):
                x = super().forward(x)
            both.wait()
            return x

    model, ended = Waits(4, 4).eval().requires_grad_(False), threading.Barrier(3)

    def call(rows):
        model(torch.rand(rows, 4))
        ended.wait()
        read.wait()

    with InMemoryTelemetry() as telemetry:
        with warpspan.capture():
            threads = [threading.Thread(target=call, args=(rows,)) for rows in (2, 3)]
            for thread in threads:
                thread.start()
            ended.wait()
        records = telemetry.records()
        read.set()
        for thread in threads:
            thread.join()
    assert {2: 2, 3: 3} == {
        one.input.batch_size: operators(one.profile)["aten::addmm"] for one in records
    }


def test_a_profiler_of_the_program_comes_first(run, caplog):
    """Inside a profiler of the program there is no capture; the program's trace is whole."""
    with InMemoryTelemetry() as telemetry:
        with torch.profiler.profile() as theirs, warpspan.capture():
            run()
        found = profiles(telemetry)
    assert [None] == found
    assert 2 == sum(event.name == "aten::addmm" for event in theirs.events())
    assert [
        "warpspan: no capture: the program profiles itself with torch.profiler: captures wait "
        "until it ends"
    ] == [record.getMessage() for record in caplog.records if record.name == "warpspan"]


def test_a_profiler_of_the_program_takes_over(run):
    """A profiler that the program starts inside a capture ends it, and sees all of its own."""
    with InMemoryTelemetry() as telemetry:
        with warpspan.capture():
            run()
            with torch.profiler.profile() as theirs:
                run()
        found = profiles(telemetry)
        with warpspan.capture():
            run()
        again = profiles(telemetry)
    assert [None, None] == found
    assert 2 == sum(event.name == "aten::addmm" for event in theirs.events())
    assert 2 == operators(again[-1])["aten::addmm"]


def test_a_prepared_profiler_counts(run):
    """A profiler in its warm-up has prepared its trace: there is no capture then."""
    schedule = torch.profiler.schedule(wait=0, warmup=1, active=1)
    with InMemoryTelemetry() as telemetry:
        with torch.profiler.profile(schedule=schedule), warpspan.capture():
            run()
        found = profiles(telemetry)
    assert [None] == found


@pytest.mark.parametrize("variable", ["CUDA_INJECTION64_PATH", "NSYS_PROFILING_SESSION_ID"])
def test_tools_around_the_process_come_first(run, monkeypatch, caplog, variable):
    """Under nsys, ncu or an injected library there is no capture, and the log says why."""
    monkeypatch.setenv(variable, "1")
    with InMemoryTelemetry() as telemetry:
        with warpspan.capture():
            run()
        with warpspan.capture():
            run()
        assert [None, None] == profiles(telemetry)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "warpspan"]
    assert f"({variable} is set)" in said


def test_operators_with_shapes(run, tmp_path):
    """With `deep_operators` the trace has the shapes of their inputs."""
    with InMemoryTelemetry(deep_operators=True, deep_directory=str(tmp_path)) as telemetry:
        with warpspan.capture():
            run()
        (record,) = telemetry.records()
    path = Path(record.profile.trace)
    with path.open("rb") as stream:
        assert read_trace(stream, path.name, head_of(path)).trace.coverage.shapes


def test_nothing_stays_patched():
    """Uninstrumented, torch's profiler is as it was."""
    kind = torch.autograd.profiler.profile
    before = kind._prepare_trace, kind.__exit__
    with InMemoryTelemetry():
        assert before != (kind._prepare_trace, kind.__exit__)
    assert before == (kind._prepare_trace, kind.__exit__)
