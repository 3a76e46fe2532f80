"""Where the time of a device went."""

from __future__ import annotations

import pytest

from tests.sources.helpers.kineto_trace import KinetoTrace
from tests.support.observations import CPU, GPU, inference, recording, request, served
from warpspan.advisor.engine import advise
from warpspan.advisor.ledger import Idle, Ledger
from warpspan.advisor.observation import KEPT_INFERENCES, Observation, Recent
from warpspan.records import Device


def about(**parts: float | None) -> dict[Idle, object]:
    """Reasons in seconds; those that are not given are not known."""
    known = {Idle(name): pytest.approx(value) for name, value in parts.items()}
    return {**dict.fromkeys(Idle), **known}


def test_requests_split_the_idle_time():
    """From the first inference to the last one: host time in requests, and time without any."""
    seen = served(10, before_s=0.02, duration_s=0.05, after_s=0.01, pause_s=0.1, device=GPU)

    (ledger,) = advise(seen).ledgers

    assert (
        Ledger(
            device=GPU,
            process="",
            elapsed_s=pytest.approx(9 * 0.18 + 0.05),
            busy_s=pytest.approx(0.5),
            transfer_alone_s=None,
            idle_s=about(request_wait=9 * 0.03, no_demand=9 * 0.1, other=0.0),
        )
        == ledger
    )


def test_without_requests_idle_time_has_no_reason():
    """All of it is in `other`."""
    (ledger,) = advise(Observation([inference(0, 0.5), inference(1, 0.5)])).ledgers

    assert (1.5, 1.0, about(other=0.5)) == (ledger.elapsed_s, ledger.busy_s, ledger.idle_s)


def test_overlapping_inferences_count_once():
    """A device is busy or not."""
    (ledger,) = advise(Observation([inference(0, 1.0), inference(0.5, 1.0)])).ledgers

    assert (1.5, 1.5) == (ledger.elapsed_s, ledger.busy_s)


def test_each_device_and_each_process_has_its_own():
    """One GPU of two processes is one device; their processors are two."""
    held = [
        inference(0, device=device)._replace(process=process)
        for process in ("one", "two")
        for device in (CPU, GPU, Device("cuda", 1, "GPU-2"))
    ]

    found = advise(Observation(held)).ledgers

    assert [
        ("", "GPU-1"), ("", "GPU-2"), ("one", None), ("two", None)
    ] == [(one.process, one.device.id) for one in found]  # fmt: skip


def test_a_gpu_without_device_times_has_no_busy_time():
    """What was not measured is absent."""
    held = [inference(at, device=GPU, timing={"device_time_s": None}) for at in range(3)]

    (ledger,) = advise(Observation(held)).ledgers

    assert (None, about()) == (ledger.busy_s, ledger.idle_s)


def test_a_recording_splits_what_is_inside_and_between():
    """Two calls: a launch gap in each, a wait behind the first, and Python between them."""
    made = KinetoTrace()
    for start in (1000, 3000):
        made.module("Net", start, 600)
        made.work(start + 100, 200, launch=start + 50)
        made.work(start + 400, 200, launch=start + 390)
    made.python("torch/cuda/__init__.py(9): synchronize", 1600, 60)
    made.call("cudaDeviceSynchronize", 1600, 60)
    made.python("app.py(1): prepare", 1700, 1250)

    (ledger,) = advise(recording(made)).ledgers

    assert (pytest.approx(0.0025), pytest.approx(0.0008)) == (ledger.elapsed_s, ledger.busy_s)
    assert about(launch=0.0001 * 3, sync=60e-6, request_wait=0.001340, other=0.0) == {
        **ledger.idle_s
    }


def test_a_request_without_an_inference_of_the_device_is_no_demand():
    """Requests of other traces don't count where inferences have their own."""
    held = [inference(0, 0.5, trace="a"), inference(2, 0.5, trace="a")]
    around = [request(0, 0.6, "a"), request(1.9, 2.5, "a"), request(0, 3, "b")]

    (ledger,) = advise(Observation(held, around)).ledgers

    assert about(request_wait=0.2, no_demand=1.3, other=0.0) == ledger.idle_s


def test_long_streams_are_bounded():
    """The last inferences are kept, and the rest is counted."""
    recent = Recent()
    one = inference(0)

    seen = sum(1 for _ in recent.passing(one for _ in range(KEPT_INFERENCES + 5)))
    observation = recent.observation((), (), None)

    assert (KEPT_INFERENCES + 5, KEPT_INFERENCES, 5) == (
        seen,
        len(observation.inferences),
        observation.forgotten,
    )
