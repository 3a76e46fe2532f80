"""From a trace to figures: whose a kernel is, and what may be said where something is missing."""

from __future__ import annotations

import gzip
import io

import pytest
from kineto_trace import PID, KinetoTrace

from warpspan.deep.figures import TOP, Member, figures_of
from warpspan.records import Profile, ProfileTotal
from warpspan.sources.kineto import KinetoReader

EPOCH_NS = 1_700_000_000_000_000_000


def member(start_us, end_us, *, tid=1, ordinal=0, device_us=None):
    """An inference on the host, by microseconds of the trace."""
    times = device_us and tuple(EPOCH_NS + us * 1000 for us in device_us)
    return Member(
        "forward Tiny",
        EPOCH_NS + start_us * 1000,
        EPOCH_NS + end_us * 1000,
        () if tid is None else (f"{PID}/{tid}",),
        ordinal,
        times,
    )


def trace():
    """A trace whose zero is known."""
    return KinetoTrace(baseTimeNanoseconds=EPOCH_NS)


def read(made, *members):
    """The figures of inferences in a trace."""
    reader = KinetoReader(io.BytesIO(made.json().encode()))
    return figures_of(reader.read(), members).profiles


def test_busy_idle_and_kernels_of_one_inference():
    """Two kernels with a gap of 10 us, both launched inside, both running after its end."""
    made = trace()
    made.work(100, 20, name="gemm", launch=10)
    made.work(130, 5, name="relu", launch=20)
    expected = Profile(
        kernel_count=2,
        busy_s=25e-6,
        idle_s=10e-6,
        kernels=(ProfileTotal("gemm", 1, 20e-6), ProfileTotal("relu", 1, 5e-6)),
    )
    assert [expected] == read(made, member(0, 50))


def test_only_five_kernels_with_short_names():
    """Those with most time, added up by name, and no name longer than 200 characters."""
    made = trace()
    for number in range(TOP + 2):
        made.work(1000 + 100 * number, 1 + number, name=f"{number}" * 300, launch=number)
        made.work(1050 + 100 * number, 1, name=f"{number}" * 300, launch=number)
    (profile,) = read(made, member(0, 100))
    assert 2 * (TOP + 2) == profile.kernel_count
    assert [(f"{number}" * 200, 2) for number in range(TOP + 1, 1, -1)] == [
        (one.name, one.total) for one in profile.kernels
    ]


def test_threads_tell_inferences_apart_that_overlap():
    """Each launch belongs to the inference of its thread."""
    made = trace()
    made.work(100, 10, launch=10, tid=1)
    made.work(110, 10, launch=12, tid=2)
    made.work(120, 10, launch=14, tid=2)
    one, two = read(made, member(0, 50, tid=1), member(5, 55, tid=2))
    assert (1, 2) == (one.kernel_count, two.kernel_count)


def test_an_unknown_thread_alone_is_no_doubt():
    """A launch on a thread that is not known belongs to the only open inference."""
    made = trace()
    made.work(100, 10, launch=10, tid=9)
    (profile,) = read(made, member(0, 50, tid=None))
    assert 1 == profile.kernel_count


def test_in_doubt_nothing_is_said():
    """Of two open inferences on threads that are not known nothing is told."""
    made = trace()
    made.work(100, 10, launch=10, tid=9)
    assert [Profile(), Profile()] == read(made, member(0, 50, tid=None), member(5, 55, tid=None))


def test_an_inference_inside_another_leaves_the_outer_one_open():
    """What is launched after the inner one can't be told from the outer's: the inner has its own."""
    made = trace()
    made.work(100, 10, launch=25)
    made.work(120, 10, launch=45)
    outer, inner = read(made, member(0, 50), member(20, 30))
    assert (Profile(), 1) == (outer, inner.kernel_count)


def test_a_graph_without_kernels_gives_counts_alone():
    """The kernels of a graph are missing: the device looks idle, which is not said."""
    made = trace()
    made.work(100, 20, launch=10)
    made.graph(20)
    (profile,) = read(made, member(0, 50))
    assert (1, None, None) == (profile.kernel_count, profile.busy_s, profile.idle_s)


def test_a_lost_kernel_concerns_its_inference_alone():
    """One launch without its kernel, as where a buffer was dropped: the other one is whole."""
    made = trace()
    made.call("cudaLaunchKernel", 10, 2, correlation=77)
    made.work(100, 20, launch=20)
    made.work(200, 20, launch=80)
    one, two = read(made, member(0, 50), member(60, 90))
    assert (1, None) == (one.kernel_count, one.busy_s)
    assert (1, 20e-6) == (two.kernel_count, two.busy_s)


def test_without_launches_kernels_are_assigned_by_time_on_the_device():
    """A source without launches: between the events of an inference, and not by the host's times."""
    made = trace()
    made.work(100, 10)
    made.work(120, 10)
    made.work(205, 10)
    one, two = read(made, member(0, 50, device_us=(95, 135)), member(60, 90, device_us=(200, 220)))
    assert (2, 20e-6, 10e-6) == (one.kernel_count, one.busy_s, one.idle_s)
    assert (1, 10e-6) == (two.kernel_count, two.busy_s)


def test_a_lost_launch_leaves_counts():
    """A kernel without its launch among others that have theirs: more may be missing."""
    made = trace()
    made.work(100, 10, launch=10)
    made.work(120, 10)
    (profile,) = read(made, member(0, 50, device_us=(95, 135)))
    assert (2, None, None) == (profile.kernel_count, profile.busy_s, profile.idle_s)


def test_no_device_in_the_trace_says_nothing():
    """A driver that refused the profiler: no count of 0."""
    made = trace()
    made.call("cudaLaunchKernel", 10, 2, correlation=77)
    assert [Profile()] == read(made, member(0, 50))


def test_an_inference_without_kernels_has_none():
    """The trace has the other's kernel, and all launches: 0 is measured."""
    made = trace()
    made.work(200, 20, launch=80)
    first, _ = read(made, member(0, 50), member(60, 90))
    assert Profile(kernel_count=0) == first


@pytest.mark.parametrize(
    ("name", "count", "busy_s", "idle_s"),
    [
        ("h100-bert-small", 60, 309.4377e-6, 3598.388e-6),
        ("mi300-vit-image-classification", 155, 1716.2988e-6, 5152.550e-6),
        ("mi300-torch-compile", 12, 12549.020e-6, 0),
    ],
)
def test_traces_of_real_gpus(recorded_traces, name, count, busy_s, idle_s):
    """One inference that launches all: busy is that of TraceLens, within 0.1 %."""
    with gzip.open(recorded_traces / f"{name}.json.gz") as stream:
        recording = KinetoReader(stream).read()
    hosts = [spans for spans in (recording.ops, recording.calls) if len(spans)]
    whole = Member(
        "forward",
        recording.epoch_ns + min(min(spans.starts) for spans in hosts),
        recording.epoch_ns + max(max(spans.ends) for spans in hosts) + 1,
        (next(iter(recording.threads)),),
        recording.device.devices[0],
    )
    (profile,) = figures_of(recording, [whole]).profiles
    assert count == profile.kernel_count
    assert busy_s == pytest.approx(profile.busy_s, rel=1e-3)
    assert idle_s == pytest.approx(profile.idle_s, rel=1e-3, abs=1e-7)


def test_kernels_that_were_counted_and_not_timed(recorded_traces):
    """A trace of hardware counters has launches and no kernel: nothing is said."""
    with gzip.open(recorded_traces / "a100-alexnet-counters.json.gz") as stream:
        recording = KinetoReader(stream).read()
    assert [Profile()] == figures_of(recording, [Member("x", 0, 1 << 62, (), 0)]).profiles
