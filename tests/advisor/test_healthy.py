"""Healthy programs: nobody is accused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sources.helpers.kineto_trace import KinetoTrace
from tests.support.observations import (
    GPU,
    claims,
    eager,
    inference,
    recording,
    request,
    series,
    served,
    verdict,
)
from warpspan.advisor.observation import Observation
from warpspan.records import Cache, Generation, Loop, Memory, Transfer, Transfers, Usage

_STATES = {"device", "compute", "memory_bandwidth", "no_demand", "cant_tell"}
"""They say how a device is used; none of them is a fault."""
_LAG = {"device_time_s": 0.04, "queue_time_s": 0.02, "gc_time_s": 0.0001}


def low_load() -> Observation:
    """A service on a CPU that answers one request every half second."""
    return served(
        60, before_s=0.003, duration_s=0.06, after_s=0.002, pause_s=0.45,
        batch=1, length=40, timing={"cpu_time_s": 0.059, "concurrency": 1},
    )  # fmt: skip


def saturated() -> Observation:
    """A GPU that lags behind its host, with pinned copies that take a twentieth."""
    copies = Transfers(h2d=Transfer(1, 1 << 20, 0, 0, 0.002))
    usage = Usage(sm_utilization=0.9, utilization=1.0, throttle_reasons=(), sm_clock_hz=1.9e9)
    memory = Memory(peak_bytes=30 << 30, reserved_bytes=34 << 30, limit_bytes=80 << 30)
    return Observation(
        series(
            60, 0.04, 0.02, device=GPU, timing=_LAG, transfers=copies, usage=usage, memory=memory
        )
    )


def many_at_once() -> Observation:
    """Streams that run beside each other on a large device: four at once take hardly longer."""
    alone = [inference(at / 10, 0.05, device=GPU) for at in range(40)]
    together = [inference(10 + at // 4 / 10 + at % 4 / 1e6, 0.055, device=GPU) for at in range(80)]
    return Observation([*alone, *together])


def batch_job() -> Observation:
    """A script on a CPU without requests: one batch after another."""
    return Observation(series(200, 0.2, 0.2, batch=32, timing={"cpu_time_s": 0.2}))


def generating() -> Observation:
    """Generations with a twentieth of the time between steps, whose caches are dropped."""
    loop = Loop(generation=Generation(decode_s=0.9, between_s=0.045, between_share=0.05))
    cache = Cache(size_bytes=1 << 20, alive_bytes=1 << 20, alive_count=1, leak_score=0.0)
    return Observation(series(30, 1.0, 1.0, loop=loop, cache=cache))


def mixed_sizes() -> Observation:
    """Documents of all lengths, each for its length."""
    return Observation(
        [inference(at, 0.0004 * (at % 97 + 30), batch=1, length=at % 97 + 30) for at in range(194)]
    )


def compiled() -> Observation:
    """A compiled model: a few long kernels back to back."""
    return recording(eager(20, kernels=6, kernel_us=480, every_us=500))


def graph() -> Observation:
    """Replays of a CUDA graph, with all of its kernels."""
    made = KinetoTrace()
    for at in range(20):
        made.annotation("forward", 1000 + at * 1000, 990)
        made.graph(1005 + at * 1000, *((1010 + at * 1000 + k * 32, 31) for k in range(30)))
    return recording(made)


def reading_results() -> Observation:
    """A loop that reads each result while the device works on it: waits that cost nothing."""
    made = KinetoTrace()
    for at in range(20):
        start = 1000 + at * 1000
        made.annotation("forward", start, 50)
        made.work(start + 5, 980, launch=start + 1)
        made.call("cudaStreamSynchronize", start + 60, 928)
    return recording(made)


def one_request_many_inferences() -> Observation:
    """An agent: one long request with inferences back to back."""
    held = [inference(at * 0.05, 0.049, trace="a" * 32) for at in range(60)]
    return Observation(held, [request(0, 3, "a" * 32)])


PROGRAMS = (
    low_load,
    saturated,
    many_at_once,
    batch_job,
    generating,
    mixed_sizes,
    compiled,
    graph,
    reading_results,
    one_request_many_inferences,
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_nobody_is_accused(program: Callable[[], Observation]):
    """Ten programs in which there is nothing to mend."""
    assert claims(verdict(program())) <= _STATES
