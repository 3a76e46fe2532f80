"""Work by inference, gaps with what the host did in them, graphs, several devices."""

from __future__ import annotations

import pytest
from kineto_trace import KinetoTrace

from warpspan.records.kernels import HostShare, HostTime


def test_work_belongs_to_the_inference_that_launched_it():
    """The device runs behind: what runs while the second is open was launched by the first."""
    trace = KinetoTrace()
    trace.module("Net", 0, 100)
    trace.module("Net", 100, 100)
    trace.work(120, 50, launch=10)
    trace.work(170, 30, launch=110)
    trace.work(250, 10, launch=230)  # by nobody

    first, second = trace.read().inferences

    assert [(120_000, 170_000)] == [(work.start_ns, work.end_ns) for work in first.work]
    assert [(170_000, 200_000)] == [(work.start_ns, work.end_ns) for work in second.work]
    assert (None, 0.0) == (
        first.inference.timing.idle_time_s,
        second.inference.timing.idle_time_s,
    )
    assert (0, 1) == trace.read().coverage[4:6]


def test_another_thread_may_launch_for_an_inference():
    """Where just one inference is open at that time."""
    trace = KinetoTrace()
    trace.module("Net", 0, 100, tid=1)
    trace.module("Net", 200, 100, tid=1)
    trace.module("Net", 200, 100, tid=2)
    trace.work(50, 10, launch=10, tid=9)
    trace.work(250, 10, launch=210, tid=9)

    read = trace.read()

    assert [1, 0, 0] == [len(one.work) for one in read.inferences]
    assert 1 == read.coverage.unassigned


def test_work_without_a_launch_is_assigned_by_time():
    """And said to be."""
    trace = KinetoTrace()
    trace.module("Net", 100, 100)
    trace.work(50, 10)
    trace.work(150, 10)
    trace.work(250, 10)

    read = trace.read()

    assert (2, 1) == (read.coverage.by_time, read.coverage.unassigned)
    assert 2 == read.inferences[0].work[0].kernel_count


def test_a_graph_is_one_launch_of_many_kernels():
    """And a graph whose kernels are missing makes busy time unknown, not small."""
    trace = KinetoTrace()
    trace.module("Net", 0, 100)
    trace.graph(10, (50, 5), (60, 5))
    whole = trace.read()
    trace.module("Net", 200, 100)
    trace.graph(210)
    trace.work(250, 5, launch=220)
    lacking = trace.read()

    (work,) = whole.inferences[0].work
    assert (2, 1, 1, pytest.approx(10e-6)) == (
        work.kernel_count,
        work.launch_count,
        work.graph_launch_count,
        work.busy_s,
    )
    assert (1, 0, True) == (*whole.coverage[-2:], whole.devices[0].complete)
    assert (2, 1, False) == (*lacking.coverage[-2:], lacking.devices[0].complete)
    assert {(None, None, None, None)} == {
        (work.busy_s, work.idle_s, work.copies_alone_s, work.host)
        for one in lacking.inferences
        for work in one.work
    }


def test_streams_that_overlap_count_once():
    """Busy is their union, kernel time their sum, a copy beside a kernel is not alone."""
    trace = KinetoTrace()
    trace.module("Net", 0, 100)
    trace.work(50, 20, launch=10)
    trace.work(60, 20, launch=12, stream=9)
    trace.work(75, 10, launch=14, stream=11, cat="gpu_memcpy", name="Memcpy HtoD (Pinned -> D)")

    (work,) = trace.read().inferences[0].work

    assert (pytest.approx(35e-6), pytest.approx(40e-6), pytest.approx(5e-6)) == (
        work.busy_s,
        work.kernel_time_s,
        work.copies_alone_s,
    )


def test_devices_are_read_apart():
    """The one with most work is the inference's own."""
    trace = KinetoTrace(
        deviceProperties=[{"id": 0, "name": "NVIDIA L4"}, {"id": 1, "name": "NVIDIA A100"}]
    )
    trace.module("Net", 0, 100)
    trace.work(50, 5, launch=10, device=0)
    trace.work(50, 20, launch=12, device=1)

    read = trace.read()

    assert ["NVIDIA L4", "NVIDIA A100"] == [line.name for line in read.devices]
    (one,) = read.inferences
    assert (1, 2) == (one.inference.device.ordinal, one.inference.model.device_count)
    assert [1, 0] == [work.device.ordinal for work in one.work]


def test_a_gap_says_what_the_host_did():
    """Each moment of it counts once, for the innermost of call, operator and function."""
    trace = KinetoTrace()
    trace.module("Net", 0, 200)
    trace.python("net.py(3): forward", 5, 190)
    trace.python("net.py(9): mask", 60, 80)
    trace.work(30, 10, launch=10)
    trace.op("aten::mm", 100, 30)
    trace.work(140, 10, launch=120)
    trace.call("cudaStreamSynchronize", 40, 10, correlation=50)

    (work,) = trace.read().inferences[0].work

    # Idle from 40 to 140: 10 waiting, 2 launching, 28 of the operator, the rest in Python.
    expected = HostShare(10e-6, 2e-6, 28e-6, 60e-6, 0.0)
    assert pytest.approx(tuple(expected)) == tuple(work.host)
    (gap,) = work.gaps
    assert (40_000, 140_000, pytest.approx(10e-6)) == gap[:3]
    assert (
        HostTime("net.py(3): forward", pytest.approx(100e-6)),
        HostTime("net.py(9): mask", pytest.approx(80e-6)),
    ) == gap.functions
    assert (
        HostTime("net.py(9): mask", pytest.approx(80e-6)),
        HostTime("net.py(3): forward", pytest.approx(20e-6)),
    ) == work.functions


def test_a_gap_between_inferences_names_what_prepared_the_next_one():
    """The functions that hold most of it, without those around the inferences."""
    trace = KinetoTrace()
    trace.python("serve.py(1): main", 0, 2000)
    for start in (0, 1000):
        trace.python("serve.py(9): handle", start, 990)
        trace.python("images.py(3): preprocess", start + 10, 800)
        trace.python("PIL/Image.py(7): resize", start + 50, 700)
        trace.module("Net", start + 850, 100)
        trace.work(start + 900, 50, launch=start + 860)

    (line,) = trace.read().devices

    (gap,) = line.between
    assert (950_000, 1_900_000) == gap[:2]
    assert ["images.py(3): preprocess", "PIL/Image.py(7): resize"] == [
        function.name for function in gap.functions
    ]
    assert (
        HostTime("images.py(3): preprocess", pytest.approx(800e-6)),
        HostTime("PIL/Image.py(7): resize", pytest.approx(700e-6)),
    ) == line.between_functions
    assert pytest.approx(950e-6) == line.between_s
    expected = HostShare(0.0, 2e-6, 0.0, 948e-6, 0.0)
    assert pytest.approx(tuple(expected)) == tuple(line.between_host)


def test_a_function_that_calls_itself_counts_once():
    """In the time between inferences, where functions count with all that they call."""
    trace = KinetoTrace()
    for start in (0, 1000):
        trace.module("Net", start, 100)
        trace.work(start + 50, 50, launch=start + 10)
    trace.python("a.py(1): walk", 200, 400)
    trace.python("a.py(1): walk", 250, 300)

    (line,) = trace.read().devices

    assert (HostTime("a.py(1): walk", pytest.approx(400e-6)),) == line.between_functions


def test_a_trace_of_the_device_alone_is_read():
    """No host, no operator: what the device did is there, and one inference for the whole."""
    trace = KinetoTrace()
    trace.work(50, 10)
    trace.work(80, 10)

    (one,) = trace.read().inferences

    assert ("trace", pytest.approx(40e-6)) == (one.found_by, one.inference.duration_s)
    assert (pytest.approx(20e-6), None) == (one.work[0].busy_s, one.work[0].host)
