"""The device itself is the limit."""

from __future__ import annotations

import pytest

from tests.support.observations import (
    GPU,
    claims,
    eager,
    inference,
    named,
    recording,
    series,
    verdict,
)
from warpspan.advisor.observation import Observation
from warpspan.records import Usage


def saturated(**fields) -> list:
    """Inferences of 40 ms without a pause, on a device that lags behind the host."""
    lag = {"device_time_s": 0.04, "queue_time_s": 0.02}
    return series(30, every_s=0.04, duration_s=0.02, device=GPU, timing=lag, **fields)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(tensor_utilization=0.6, dram_utilization=0.3, sm_utilization=0.95), "compute"),
        (Usage(tensor_utilization=0.1, dram_utilization=0.2, sm_utilization=0.9), "compute"),
        (
            Usage(tensor_utilization=0.2, dram_utilization=0.8, sm_utilization=0.9),
            "memory_bandwidth",
        ),
        (Usage(tensor_utilization=0.45, dram_utilization=0.5, sm_utilization=0.7), "device"),
        (None, "device"),
    ],
)
def test_counters_tell_arithmetic_from_bandwidth(usage, expected):
    """And where they don't, it is the device."""
    assert ([expected], [], []) == named(verdict(saturated(usage=usage)))


def test_estimated_counters_make_it_possible():
    """Thirty inferences or not."""
    usage = Usage(tensor_utilization=0.6, sm_utilization=0.9, estimated=True)

    (first,) = verdict(saturated(usage=usage)).bottlenecks

    assert ("compute", "possible") == (first.id, first.confidence)


def test_a_busy_recording_is_the_device():
    """Kernels back to back."""
    found = verdict(recording(eager(20, kernels=10, kernel_us=48, every_us=50)))

    assert (["device"], [], []) == named(found)


def test_three_quarters_are_not_enough():
    """Below eight tenths nothing is said of the device."""
    found = verdict(recording(eager(20, kernels=10, kernel_us=37, every_us=50)))

    assert not claims(found) & {"device", "compute", "memory_bandwidth"}


def test_a_processor_is_a_device():
    """One inference after another on the caller's core."""
    held = series(30, every_s=0.05, timing={"cpu_time_s": 0.049})

    assert (["device"], [], []) == named(verdict(held))


def test_a_coroutine_that_sleeps_keeps_no_processor_busy():
    """The thread was on a core for a tenth of the time."""
    held = series(30, every_s=0.05, timing={"cpu_time_s": 0.005})

    found = verdict(held)

    assert (["cant_tell"], [], ["device"]) == named(found)
    assert "on a core for 10%" in found.cant_tell[0].missing


def test_without_processor_time_it_is_not_known():
    """As in an event loop, where an inference may as well sleep."""
    assert (["cant_tell"], [], ["device"]) == named(verdict(series(30, every_s=0.05)))


def test_nothing_is_nothing():
    """Without device times nothing is known of a GPU."""
    held = [
        inference(at / 20, device=GPU, timing={"device_time_s": None, "queue_time_s": None})
        for at in range(30)
    ]

    assert (["cant_tell"], [], ["launch"]) == named(verdict(Observation(held)))
