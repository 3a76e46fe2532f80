"""Runs as trace events: what Perfetto's importer asks of them, and what they show."""

from __future__ import annotations

import io
import json
import shutil

import pytest

from tests.support.records import full_inference
from warpspan.advisor.observation import Observation
from warpspan.records import (
    Device,
    DeviceSample,
    Inference,
    Loop,
    Memory,
    Model,
    StepTime,
    Timing,
)
from warpspan.records.intervals import Intervals
from warpspan.records.kernels import (
    Coverage,
    DeviceTimeline,
    DeviceWork,
    HostTime,
    IdleGap,
    Trace,
    TracedInference,
)
from warpspan.records.request import Request
from warpspan.report.perfetto import write_perfetto
from warpspan.report.tracks import Slice, lanes

MS = 1_000_000
START = 1_760_000_000_000_000_001
GPU = Device("cuda", 0, "GPU-1")


def inference(start_ms: float, duration_ms: float, **values) -> Inference:
    """An inference of Net on a GPU, as long after the start of the run as stated."""
    defaults = {"operation": "forward", "device": GPU, "model": Model("Net"), "process": "p"}
    return Inference(
        start_ns=START + int(start_ms * MS), duration_s=duration_ms / 1e3, **(defaults | values)
    )


def work(start_ms: int, end_ms: int) -> DeviceWork:
    return DeviceWork(
        Device("cuda", 0), start_ms * MS, end_ms * MS, 0.002, 0.0, None, 0.002, 7, 0.002, 8, 0,
        (), (), None, None, None, (), (), None, None,
    )  # fmt: skip


def events(observation: Observation) -> list[dict]:
    stream = io.StringIO()
    total = write_perfetto(observation, stream)
    written = json.loads(stream.getvalue(), parse_constant=pytest.fail)
    assert total == len(written["traceEvents"])
    return written["traceEvents"]


def tracks(found: list[dict]) -> dict[str, list[tuple]]:
    """Slices as name, start and duration in microseconds, by process and track."""
    named = {
        (event["pid"], event["tid"], event["name"]): event["args"]["name"]
        for event in found
        if event["ph"] == "M" and "name" in event["args"]
    }
    held: dict[str, list[tuple]] = {}
    for event in found:
        if event["ph"] == "X":
            process = named[event["pid"], 0, "process_name"]
            track = named[event["pid"], event["tid"], "thread_name"]
            slices = held.setdefault(f"{process}/{track}", [])
            slices.append((event["name"], event["ts"], event["dur"]))
    return held


def test_requests_inferences_and_the_device():
    """What overlaps is in lanes of its own, and times keep their nanoseconds."""
    run = Observation(
        [
            inference(1, 4.000001, timing=Timing(device_time_s=0.003, queue_time_s=0.001)),
            inference(2, 4),
            inference(7, 1),
        ],
        [Request(START, START + 9 * MS, "ab", "POST /classify", "p")],
    )
    assert {
        "process: p/requests": [("POST /classify", 0.0, 9000.0)],
        "process: p/inferences": [
            ("forward Net", 1000.0, 4000.001),
            ("forward Net", 7000.0, 1000.0),
        ],
        "process: p/inferences 2": [("forward Net", 2000.0, 4000.0)],
        "cuda:0 GPU-1/device": [("forward Net", 2000.0, 3000.0)],
    } == tracks(events(run))


def test_a_click_shows_all_attributes():
    """Of the span, with its ids."""
    one = full_inference()
    (found,) = [event for event in events(Observation([one])) if event.get("cat") == "inferences"]
    attributes = {**one.start_attributes(), **one.end_attributes()}
    ids = {"trace_id": one.trace_id, "span_id": one.span_id, "parent_span_id": one.parent_span_id}
    expected = json.loads(
        json.dumps(attributes | {key: value for key, value in ids.items() if value})
    )
    assert expected == found["args"]


def test_an_arrow_leads_from_the_host_to_the_device():
    """Where the device time is known."""
    timing = Timing(device_time_s=0.003, queue_time_s=0.001)
    found = events(Observation([inference(0, 5, timing=timing), inference(9, 1)]))
    assert [("s", 1, 0.0), ("f", 1, 1000.0)] == [
        (event["ph"], event["id"], event["ts"]) for event in found if event.get("cat") == "flow"
    ]


def test_steps_of_a_loop():
    """By their own times."""
    steps = (StepTime("prefill", 0.0, 0.001), StepTime("decode", 0.002, 0.001))
    found = tracks(events(Observation([inference(0, 5, loop=Loop(steps=steps))])))
    assert [("prefill", 0.0, 1000.0), ("decode", 2000.0, 1000.0)] == found["process: p/steps"]


def test_counters():
    """In the order of time; what was not measured is no point."""
    run = Observation(
        [
            inference(5, 1, memory=Memory(allocated_start_bytes=7, allocated_end_bytes=8)),
            inference(1, 1, memory=Memory(allocated_start_bytes=5, peak_bytes=6)),
        ],
        samples=[DeviceSample(0, "GPU-1", power_w=300.0, sm_utilization=0.5, unix_ns=START)],
    )
    found = events(run)
    assert {1} == {event["pid"] - 1 for event in found if event["ph"] == "C"}
    assert [
        ("memory allocated", 1000.0, {"bytes": 5}),
        ("memory allocated", 5000.0, {"bytes": 7}),
        ("memory allocated", 6000.0, {"bytes": 8}),
        ("memory peak of an inference", 2000.0, {"bytes": 6}),
        ("power", 0.0, {"W": 300.0}),
        ("SM utilization", 0.0, {"%": 50.0}),
    ] == [(event["name"], event["ts"], event["args"]) for event in found if event["ph"] == "C"]


def test_a_profilers_trace():
    """Kernels, copies, waits and idle gaps on the clock of the inferences."""
    own = inference(0, 10, process="rank 0", timing=Timing(device_time_s=0.008))
    line = DeviceTimeline(
        Device("cuda", 0), "H100", "rank 0",
        Intervals([(1 * MS, 3 * MS), (6 * MS, 9 * MS)]), Intervals([(4 * MS, 5 * MS)]), True, (), 0.0, (),
        (IdleGap(3 * MS, 4 * MS, 0.0, (HostTime("tokenize", 0.001),)),), 0.002, None, (),
    )  # fmt: skip
    traced = TracedInference(own, "module", (work(1, 9),), steps=Intervals([(0, 4 * MS)]))
    trace = Trace(
        "PyTorch Profiler", "rank 0", START, (traced,), 0, (line,), Intervals([(9 * MS, 10 * MS)]),
        Coverage(True, True, False, False),
    )  # fmt: skip
    found = events(Observation.of_traces([trace]))
    assert {
        "process: rank 0/inferences": [("forward Net", 0.0, 10000.0)],
        "process: rank 0/steps": [("step", 0.0, 4000.0)],
        "process: rank 0/waits": [("wait for the device", 9000.0, 1000.0)],
        "cuda:0 H100/device": [("forward Net", 1000.0, 8000.0)],
        "cuda:0 H100/kernels": [("kernels", 1000.0, 2000.0), ("kernels", 6000.0, 3000.0)],
        "cuda:0 H100/copies": [("copies", 4000.0, 1000.0)],
        "cuda:0 H100/idle": [("idle: launch", 3000.0, 1000.0), ("idle: launch", 5000.0, 1000.0)],
    } == tracks(found)
    assert [{"tokenize": 0.001}] == [
        event["args"] for event in found if event.get("cat") == "idle" and "args" in event
    ]
    incomplete = trace._replace(devices=(line._replace(complete=False),))
    assert not any(
        event.get("cat") == "idle" for event in events(Observation.of_traces([incomplete]))
    )


def test_no_slice_overlaps_another_one_in_its_lane():
    """Perfetto takes overlapping slices of a track for nested ones, and drops what is not."""
    slices = [Slice(str(n), start, start + 10 + n % 7) for n, start in enumerate(range(0, 200, 3))]
    dealt = lanes(reversed(slices))
    assert sorted(slices) == sorted(one for lane in dealt for one in lane)
    for lane in dealt:
        ends = [one.end_ns for one in lane]
        assert all(end <= one.start_ns for end, one in zip(ends, lane[1:], strict=False))


def test_names_can_not_break_the_file():
    """Quotes, line breaks and terminals' sequences in names from a file."""
    hostile = '"}]\n\x1b[31m</script>'
    found = events(Observation([inference(0, 1, model=Model(hostile), process=hostile)]))
    assert 'forward "}]\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31m</script>' in {
        event["name"] for event in found
    }


def test_nothing():
    """An empty run is an empty trace."""
    assert [] == events(Observation([]))


def test_perfettos_own_trace_processor_reads_it(tmp_path):
    """Slices, their tracks, arrows and counters as Perfetto imports them, without an error."""
    perfetto = pytest.importorskip("perfetto.trace_processor")
    binary = shutil.which("trace_processor_shell")
    if binary is None:
        pytest.skip(
            "trace_processor_shell is not on PATH (https://get.perfetto.dev/trace_processor)"
        )
    path = tmp_path / "run.json"
    timing = Timing(device_time_s=0.003, queue_time_s=0.001)
    run = Observation(
        [inference(1, 5, timing=timing, memory=Memory(allocated_end_bytes=8)), inference(2, 5)],
        [Request(START, START + 9 * MS, "ab", "POST /classify", "p")],
    )
    with path.open("w") as stream:
        write_perfetto(run, stream)
    config = perfetto.TraceProcessorConfig(bin_path=binary)
    with perfetto.TraceProcessor(trace=str(path), config=config) as processor:
        slices = processor.query(
            "select s.name, s.ts, s.dur, t.name as track from slice s "
            "join thread_track k on s.track_id = k.id join thread t using (utid) order by ts, track"
        )
        assert [
            ("POST /classify", 0, 9 * MS, "requests"),
            ("forward Net", 1 * MS, 5 * MS, "inferences"),
            ("forward Net", 2 * MS, 3 * MS, "device"),
            ("forward Net", 2 * MS, 5 * MS, "inferences 2"),
        ] == [(row.name, row.ts, row.dur, row.track) for row in slices]
        assert [8.0] == [row.value for row in processor.query("select value from counter")]
        assert [1] == [row.n for row in processor.query("select count(*) as n from flow")]
        errors = "select name from stats where severity in ('error', 'data_loss') and value > 0"
        assert [] == [row.name for row in processor.query(errors)]
