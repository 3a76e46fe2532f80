"""Rows out of inferences made by hand."""

from __future__ import annotations

import json

import pytest

from warpspan.records import Cache, Device, Inference, Input, Memory, Model, Timing
from warpspan.report.costs import FirstCalls
from warpspan.report.summary import Quantiles, Row, Spread, Summary, summarize

SECOND = 1_000_000_000


def inference(start_s: float = 0.0, duration_s: float = 1.0, **values) -> Inference:
    """An inference of Net on the CPU of process p."""
    defaults = {
        "operation": "forward",
        "device": Device("cpu"),
        "model": Model("Net"),
        "process": "p",
    }
    return Inference(start_ns=round(start_s * SECOND), duration_s=duration_s, **(defaults | values))


def idle_share(*inferences: Inference) -> float | None:
    """The idle share of the one row that they make."""
    (row,) = summarize(inferences).rows
    return row.idle_share


def test_nothing():
    """No inference makes no row."""
    assert Summary((), 0, 0, 0, 0.0) == summarize([])


def test_one_inference_on_a_cpu():
    """What one inference can't tell is absent, not zero."""
    row = Row(
        operation="forward",
        model="Net",
        device_type="cpu",
        device_indexes=(),
        inference_count=1,
        errors={},
        rate_per_s=None,
        duration_s=Quantiles(0.5, 0.5, 0.5),
        device_time_s=None,
        device_share=None,
        memory_peak_bytes=None,
        rss_max_bytes=None,
        batch_size=None,
        sequence_length=None,
        idle_share=None,
    )
    assert Summary((row,), 1, 0, 1, 0.5) == summarize([inference(duration_s=0.5)])


def test_whole_row():
    """Each value of a row comes from the inferences that have it."""
    cuda = [
        inference(
            start_s=10 * number,
            duration_s=float(number),
            device=Device("cuda", number % 2, "GPU"),
            input=Input(
                batch_size=number, sequence_length=10 * number, shape=(number, 10 * number)
            ),
            timing=Timing(
                device_time_s=number / 2,
                queue_time_s=0.0,
                idle_time_s=None if number < 3 else 1.0,
            ),
            memory=Memory(peak_bytes=100 * number),
            error_type="ValueError" if number == 4 else None,
        )
        for number in (1, 2, 3, 4)
    ]
    last = inference(start_s=50, duration_s=5.0, device=Device("cuda", 0))
    row = Row(
        operation="forward",
        model="Net",
        device_type="cuda",
        device_indexes=(0, 1),
        inference_count=5,
        errors={"ValueError": 1},
        rate_per_s=5 / 45,
        duration_s=Quantiles(3.0, 5.0, 5.0),
        device_time_s=Quantiles(1.0, 2.0, 2.0),
        device_share=0.5,
        memory_peak_bytes=400,
        rss_max_bytes=None,
        batch_size=Spread(2, 4),
        sequence_length=Spread(20, 40),
        # Two seconds idle; busy 0.5 + 1 + 1.5 + 2 on the device and the last one's 5 on the host.
        idle_share=2 / 12,
        first_calls=FirstCalls(1.0, Quantiles(3.0, 5.0, 5.0)),
    )
    assert Summary((row,), 5, 1, 1, 45.0) == summarize([*cuda, last])


def test_rows():
    """A row per operation, model and device type; the longest time on the host comes first."""
    summary = summarize(
        [
            inference(duration_s=1.0),
            inference(duration_s=2.0, device=Device("cuda", 0)),
            inference(duration_s=3.0, operation="rerank", model=Model()),
            inference(duration_s=0.5, process="q", model=Model("Other")),
            inference(duration_s=3.0),
        ]
    )
    assert [
        ("forward", "Net", "cpu", 2),
        ("rerank", None, "cpu", 1),
        ("forward", "Net", "cuda", 1),
        ("forward", "Other", "cpu", 1),
    ] == [(row.operation, row.model, row.device_type, row.inference_count) for row in summary.rows]
    assert 2 == summary.process_count


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, (1, 1, 1)), (2, (1, 2, 2)), (20, (10, 19, 20)), (100, (50, 95, 99)), (101, (51, 96, 100))],
)
def test_nearest_rank(count, expected):
    """A percentile is the smallest value that so many percent do not exceed."""
    (row,) = summarize(inference(duration_s=float(n)) for n in range(count, 0, -1)).rows
    assert Quantiles(*map(float, expected)) == row.duration_s


def test_median_size_is_one_that_occurred():
    """The median of an even number of sizes is the lower middle one, not a mean."""
    sizes = [8, 1, 32, 8, 1, 1]
    (row,) = summarize(inference(input=Input(batch_size=size)) for size in sizes).rows
    assert Spread(1, 32) == row.batch_size


def test_rss():
    """The memory of inferences on a CPU is the process's, kept apart from a device's."""
    (row,) = summarize(inference(memory=Memory(rss_bytes=size)) for size in (5, 9, 7)).rows
    assert (None, 9) == (row.memory_peak_bytes, row.rss_max_bytes)


def test_device_time_longer_than_the_call():
    """Calls that return before the device is done have a device share above one."""
    (row,) = summarize([inference(duration_s=1.0, timing=Timing(device_time_s=4.0))]).rows
    assert 4.0 == row.device_share


def test_idle_share_of_one_model():
    """Idle over idle and busy is the idle part of the time from first start to last end."""
    assert 3 / 5 == idle_share(inference(0, 1), inference(4, 1, timing=Timing(idle_time_s=3.0)))


def test_overlapping_inferences_are_busy_once():
    """Two threads at once keep the device busy for the union of their times."""
    assert 1 / 4 == idle_share(
        inference(0, 2),
        inference(1, 1, timing=Timing(idle_time_s=0.0)),
        inference(0.5, 1.5, timing=Timing(idle_time_s=0.0)),
        inference(3, 1, timing=Timing(idle_time_s=1.0)),
    )


def test_processes_and_devices_are_busy_apart():
    """The same time in another process, or on another device, counts again."""
    one, other = Device("cuda", 0), Device("cuda", 1)
    idle = Timing(idle_time_s=1.0)
    assert 1 / 4 == idle_share(
        inference(0, 1, device=one),
        inference(0, 1, device=other),
        inference(0, 1, device=one, process="q", timing=idle),
    )


def test_busy_by_device_time():
    """On a device, busy is from start + queue time on, for the device time."""
    assert 1 / 4 == idle_share(
        inference(0, 0.1, timing=Timing(device_time_s=2.0, queue_time_s=0.0)),
        inference(0, 0.1, timing=Timing(device_time_s=1.0, queue_time_s=2.0, idle_time_s=1.0)),
    )


def test_always_busy():
    """A measured idle time of zero is a share of zero, not absent."""
    assert 0.0 == idle_share(inference(0, 1), inference(1, 1, timing=Timing(idle_time_s=0.0)))


def test_json():
    """The keys for programs, with their units."""
    summary = summarize(
        [
            inference(
                start,
                1.0,
                device=Device("cuda", 0),
                input=Input(batch_size=4, sequence_length=16, shape=(4, 16)),
                timing=Timing(device_time_s=0.5, idle_time_s=0.5),
                memory=Memory(peak_bytes=7),
                error_type="ValueError",
            )
            for start in (0, 1)
        ]
    )
    assert {
        "inference_count": 2,
        "error_count": 2,
        "process_count": 1,
        "elapsed_s": 2.0,
        "rows": [
            {
                "operation": "forward",
                "model": "Net",
                "device_type": "cuda",
                "device_indexes": [0],
                "inference_count": 2,
                "error_count": 2,
                "errors": {"ValueError": 2},
                "rate_per_s": 1.0,
                "duration_p50_s": 1.0,
                "duration_p95_s": 1.0,
                "duration_p99_s": 1.0,
                "device_time_p50_s": 0.5,
                "device_time_p95_s": 0.5,
                "device_time_p99_s": 0.5,
                "device_share": 0.5,
                "memory_peak_bytes": 7,
                "rss_max_bytes": None,
                "batch_size_median": 4,
                "batch_size_max": 4,
                "sequence_length_median": 16,
                "sequence_length_max": 16,
                "idle_share": 0.5,
                "kv_cache_max_bytes": None,
                "kv_cache_growth_bytes": None,
                "loops": None,
                "costs": None,
                "first_call_s": 1.0,
                "later_duration_p50_s": 1.0,
                "later_duration_p95_s": 1.0,
                "later_duration_p99_s": 1.0,
            }
        ],
        "kv_cache_leaks": [],
    } == json.loads(json.dumps(summary.to_json()))


def test_kv_caches():
    """The largest at an end, and the mean of what was added; inferences without one don't count."""
    (row,) = summarize(
        [
            inference(0, cache=Cache(type="dynamic", size_bytes=4096, increase_bytes=4096)),
            inference(1, cache=Cache(type="dynamic", size_bytes=5120, increase_bytes=1024)),
            inference(2),
        ]
    ).rows
    assert (5120, 2560.0) == (row.kv_cache_max_bytes, row.kv_cache_growth_bytes)
