"""Clocks, garbage collection, the slowest one percent, warm-up, and hints."""

from __future__ import annotations

import pytest

from tests.sources.helpers.kineto_trace import KinetoTrace
from tests.support.observations import (
    GPU,
    claims,
    inference,
    named,
    recording,
    series,
    shares,
    verdict,
)
from warpspan.advisor.observation import Observation
from warpspan.records import DeviceSample, Model, Usage


def clocked(reasons: tuple[str, ...], slow_hz: float) -> list:
    """Inferences of which all but the first ones run at a lower clock."""
    made = series(30, every_s=0.05, device=GPU)
    return [
        one._replace(
            usage=Usage(
                sm_utilization=0.9,
                sm_clock_hz=2e9 if at < 5 else slow_hz,
                throttle_reasons=() if at < 5 else reasons,
            )
        )
        for at, one in enumerate(made)
    ]


def test_a_clock_that_is_held_down():
    """A third below the highest one seen, with a reason of the driver."""
    found = verdict(clocked(("hw_thermal_slowdown",), 1.3e9))

    held = {one.id: one for one in (*found.bottlenecks, *found.findings)}
    assert ("possible", "hw_thermal_slowdown") == (
        held["throttling"].confidence,
        held["throttling"].evidence["reasons"],
    )


@pytest.mark.parametrize(("reasons", "slow_hz"), [(("sw_power_cap",), 1.8e9), ((), 1.3e9)])
def test_a_reason_without_a_lower_clock_is_none(reasons, slow_hz):
    """Both are needed: a power cap that costs a tenth is usual."""
    assert "throttling" not in claims(verdict(clocked(reasons, slow_hz)))


def test_samples_of_the_device_count():
    """Where spans have no clocks."""
    samples = [
        DeviceSample(at, "GPU-1", sm_clock_hz=2e9 if at < 5 else 1e9,
                     throttle_reasons=("hw_slowdown",) if at >= 5 else ())
        for at in range(30)
    ]  # fmt: skip
    held = series(30, every_s=0.05, device=GPU)

    assert "throttling" in claims(verdict(Observation(held, samples=samples)))
    assert "throttling" not in claims(verdict(Observation(held)))


@pytest.mark.parametrize(("gc_s", "expected"), [(0.005, True), (0.002, False), (None, False)])
def test_collections_inside_inferences(gc_s, expected):
    """A tenth of the duration, a twenty-fifth, or not measured."""
    found = verdict(series(30, every_s=0.05, timing={"gc_time_s": gc_s, "gc_count": 1}))

    assert expected == ("gc" in claims(found))
    if expected:
        assert [0.1] == shares(found, "gc")


def tailed(count: int, slow_s: float) -> list:
    """Every fiftieth inference has a long text."""
    return [
        inference(
            at / 10, slow_s if at % 50 == 49 else 0.02, batch=1, length=500 if at % 50 == 49 else 50
        )
        for at in range(count)
    ]


def test_what_the_slowest_have_more_of():
    """Ten times the tokens."""
    found = verdict(tailed(200, 0.1))

    held = {one.id: one for one in found.findings}
    assert ["tokens 10.0 times the median"] == held["tail"].evidence["more_of"]


@pytest.mark.parametrize(("count", "slow_s"), [(200, 0.05), (90, 0.1)])
def test_a_short_tail_or_a_short_series_is_none(count, slow_s):
    """Three times the median, from a hundred inferences on."""
    assert "tail" not in claims(verdict(tailed(count, slow_s)))


def test_warm_up_is_set_aside_and_said():
    """The first one, and those behind it that take three times the median."""
    held = [inference(at, 2.0 if at < 3 else 0.1) for at in range(30)]

    found = verdict(held)

    assert (30, 3) == (found.inference_count, found.warm_up_count)
    assert pytest.approx(2.7) == found.wall_s


@pytest.mark.parametrize(("dtype", "expected"), [("float32", True), ("bfloat16", False)])
def test_float32_is_a_hint_where_arithmetic_is_short(dtype, expected):
    """And nowhere else."""
    model = Model(name="Net", dtype=dtype)
    lag = {"device_time_s": 0.04, "queue_time_s": 0.02}
    fields = {"device": GPU, "model": model, "timing": lag}

    short = series(30, 0.04, 0.02, usage=Usage(tensor_utilization=0.7), **fields)

    assert expected == ("precision" in claims(verdict(_named(short, model))))
    assert "precision" not in claims(
        verdict(_named(series(30, 0.04, 0.02, device=GPU, timing=lag), model))
    )


def _named(held: list, model: Model) -> list:
    return [one._replace(model=model) for one in held]


@pytest.mark.parametrize(
    ("operator", "expected"), [("aten::gelu", ["bias_gelu"]), ("aten::mm", None)]
)
def test_fused_kernels_that_fit_are_named_under_launches(operator, expected):
    """By the operators that launched the kernels, with the row of the benchmark."""
    made = KinetoTrace()
    for at in range(20):
        start = 1000 + at * 1500
        made.annotation("forward", start, 1500)
        for kernel in range(30):
            launch = start + kernel * 50
            made.op(operator, launch, 10)
            made.work(launch + 5, 5, launch=launch + 1)

    found = verdict(recording(made))

    assert ["launch"] == named(found)[0]
    fused = {one.id: one.evidence["fused"] for one in found.findings if one.id == "fusion"}
    assert ({"fusion": expected} if expected else {}) == fused
