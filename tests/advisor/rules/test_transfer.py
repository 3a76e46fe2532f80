"""Copies between host and device."""

from __future__ import annotations

import pytest

from tests.sources.helpers.kineto_trace import KinetoTrace
from tests.support.observations import GPU, claims, named, recording, series, shares, verdict
from warpspan.records import Transfer, Transfers

MIB = 1 << 20


def copied(time_s: float | None, **fields) -> list:
    """Inferences of 40 ms, before each of which inputs are copied."""
    copy = Transfer(total=1, nbytes=64 * MIB, time_s=time_s, **fields)
    return series(30, every_s=0.04, duration_s=0.04, device=GPU, transfers=Transfers(h2d=copy))


def test_copies_that_take_a_fifth_of_the_time():
    """10 ms of copies before 40 ms on the device; pageable memory is named."""
    found = verdict(copied(0.01, pageable_bytes=64 * MIB, weight_bytes=0))

    assert (["transfer"], [0.2]) == (named(found)[0], shares(found, "transfer"))
    (first,) = found.bottlenecks
    assert (True, 1.0) == (first.evidence["pageable"], first.evidence["pageable_share"])
    assert "pin_memory" in first.advice


def test_weights_that_are_copied_each_time_are_named():
    """They belong on the device."""
    (first,) = verdict(copied(0.01, pageable_bytes=0, weight_bytes=60 * MIB)).bottlenecks

    assert ("transfer", True) == (first.id, first.evidence["weights"])
    assert "model.to(device) once" in first.advice


def test_short_copies_are_none():
    """4 ms beside 40 ms are less than a tenth."""
    assert "transfer" not in claims(verdict(copied(0.004)))


def test_copies_without_a_time_are_a_question():
    """64 MiB per inference."""
    found = verdict(copied(None))

    assert ("transfer" in named(found)[2], "transfer" in claims(found)) == (True, False)


@pytest.mark.parametrize(("copy_us", "expected"), [(300, True), (80, False)])
def test_a_recording_has_copies_alone(copy_us, expected):
    """Only copies during which no kernel runs count."""
    made = KinetoTrace()
    for at in range(20):
        start = 1000 + at * (1000 + copy_us)
        made.annotation("forward", start, 500)
        made.work(
            start + 10, copy_us, name="Memcpy HtoD (Pageable -> Device)", cat="gpu_memcpy",
            launch=start + 1, call="cudaMemcpyAsync", bytes=4096,
        )  # fmt: skip
        made.work(start + 10 + copy_us, 980, launch=start + 20)

    assert expected == ("transfer" in claims(verdict(recording(made))))
