"""The device waits for launches: by kernels, or by the host's lead where there are none."""

from __future__ import annotations

import pytest

from tests.sources.helpers.kineto_trace import KinetoTrace
from tests.support.observations import (
    GPU,
    claims,
    eager,
    named,
    recording,
    series,
    shares,
    verdict,
)
from warpspan.advisor.observation import Observation
from warpspan.records import SyncKind, Syncs, Usage


def test_gaps_between_small_kernels_are_launches():
    """Kernels of 5 µs every 50 µs: the device is idle for nine tenths of the time."""
    found = verdict(recording(eager(30, kernels=20, kernel_us=5, every_us=50)))

    assert (["launch"], [], []) == named(found)
    (first,) = found.bottlenecks
    assert ("sure", 0.9) == (first.confidence, round(first.share, 2))
    assert pytest.approx(1 / (1 - first.share)) == first.ceiling_gain
    assert {
        "kernels_per_inference": 20.0,
        "launches_per_inference": 20.0,
        "mean_kernel_s": pytest.approx(5e-6),
        "small_kernels": True,
    }.items() <= dict(first.evidence).items()


def test_short_gaps_are_none():
    """Idle for a fifth of the device time: less than NVIDIA's three tenths."""
    found = verdict(recording(eager(30, kernels=20, kernel_us=40, every_us=50)))

    assert "launch" not in claims(found)


def test_one_inference_is_possible():
    """The kernels of a single one are a measurement, but not twenty."""
    found = verdict(recording(eager(1, kernels=60, kernel_us=5, every_us=50)))

    assert (["launch"], "possible") == (named(found)[0], found.bottlenecks[0].confidence)


def test_graphs_without_kernels_are_not_idle():
    """A replay whose kernels are not in the recording looks idle and is not accused."""
    made = eager(20, kernels=2, kernel_us=5, every_us=50)
    for at in range(20):
        made.graph(1005 + at * 100)

    assert (["cant_tell"], [], ["launch"]) == named(verdict(recording(made)))


def test_graphs_with_kernels_are_busy():
    """A replayed graph keeps the device busy: that is no fault."""
    made = KinetoTrace()
    for at in range(20):
        start = 1000 + at * 1000
        made.annotation("forward", start, 900)
        made.graph(start + 5, *((start + 20 + 48 * kernel, 47) for kernel in range(20)))

    assert (["device"], [], []) == named(verdict(recording(made)))


def test_one_long_call_of_the_driver_is_no_launch():
    """Loading and tuning happen once; a warm recording is asked for."""
    made = KinetoTrace()
    made.annotation("forward", 1000, 20_000)
    for kernel in range(10):
        launch = 1001 + kernel * 20 + (15_000 if kernel > 4 else 0)
        made.work(launch + 10, 5, launch=launch)
    made.call("cuModuleLoadData", 1100, 14_900)

    found = verdict(recording(made))

    assert (["cant_tell"], ["launch"]) == (named(found)[0], named(found)[2])


def test_without_kernels_it_is_only_possible():
    """The device ends with the host, nothing waits for it, and it is hardly used."""
    found = verdict(series(30, every_s=0.05, device=GPU, usage=Usage(sm_utilization=0.2)))

    assert ["launch"] == named(found)[0]
    assert ("possible", [0.8]) == (found.bottlenecks[0].confidence, shares(found, "launch"))


@pytest.mark.parametrize(
    "fields",
    [
        {"usage": Usage(sm_utilization=0.9)},
        {"usage": Usage(sm_utilization=0.2), "timing": {"device_time_s": 0.08}},
        {
            "usage": Usage(sm_utilization=0.2),
            "syncs": Syncs(4, 0.03, kinds=(SyncKind("item", 4, 0.03),)),
        },
    ],
)
def test_a_used_a_lagging_or_an_awaited_device_waits_for_no_launch(fields):
    """Each of the three signs may exclude it."""
    found = verdict(series(30, every_s=0.1, device=GPU, **fields))

    assert "launch" not in claims(found)


def test_without_kernels_and_counters_it_is_not_known():
    """What supplies it is said."""
    found = verdict(series(30, every_s=0.05, device=GPU))

    assert (["cant_tell"], [], ["launch"]) == named(found)
    assert "torch.profiler" in found.cant_tell[0].how


def test_one_inference_without_kernels_is_too_little():
    """It may be warm-up."""
    found = verdict(Observation(series(1, device=GPU, usage=Usage(sm_utilization=0.2))))

    assert (["cant_tell"], [], ["cant_tell"]) == named(found)
