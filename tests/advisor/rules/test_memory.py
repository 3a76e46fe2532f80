"""Memory: full, in pieces, too much, or never released."""

from __future__ import annotations

import pytest

from tests.support.observations import GPU, claims, named, series, verdict
from warpspan.advisor.observation import Observation
from warpspan.records import Cache, CacheState, Device, Memory, Usage

GIB = 1 << 30


def held(**memory) -> list:
    """Inferences on a card of 80 GiB that queue."""
    lag = {"device_time_s": 0.05, "queue_time_s": 0.02}
    return series(
        30, every_s=0.05, device=GPU, memory=Memory(limit_bytes=80 * GIB, **memory), timing=lag
    )


@pytest.mark.parametrize(
    ("memory", "strong"),
    [
        ({"peak_bytes": 75 * GIB}, False),
        ({"peak_bytes": 79 * GIB}, True),
        ({"peak_bytes": 40 * GIB, "allocation_retries": 1}, False),
        ({"peak_bytes": 40 * GIB, "oom_requested_bytes": GIB}, True),
    ],
)
def test_a_full_card_is_named_first(memory, strong):
    """It ends the program sooner or later."""
    found = verdict(held(**memory))

    assert ["memory_capacity"] == named(found)[0]
    assert strong == found.bottlenecks[0].strong


def test_nine_tenths_are_not_full():
    """Below 92 %."""
    assert "memory_capacity" not in claims(verdict(held(peak_bytes=72 * GIB)))


def test_cards_without_a_limit_are_not_full():
    """Nothing is guessed."""
    assert "memory_capacity" not in claims(
        verdict(series(30, device=GPU, memory=Memory(peak_bytes=79 * GIB)))
    )


@pytest.mark.parametrize(("used", "expected"), [(20 * GIB, True), (30 * GIB, False)])
def test_reserved_memory_that_nobody_uses(used, expected):
    """Twice what is in use, and a third of the card."""
    found = verdict(held(peak_bytes=used, reserved_bytes=41 * GIB))

    assert expected == ("fragmentation" in claims(found))


@pytest.mark.parametrize(
    ("peak", "use", "count", "expected"),
    [
        (4 * GIB, 0.2, 30, "1g.10gb"),
        (15 * GIB, 0.2, 30, "1g.20gb"),
        (40 * GIB, 0.2, 30, None),
        (4 * GIB, 0.9, 30, None),
        (4 * GIB, 0.2, 10, None),
    ],
)
def test_a_card_that_is_too_large_for_its_model(peak, use, count, expected):
    """A quarter of its memory and half of its multiprocessors would do: the MIG profile is named."""
    found = verdict(
        series(
            count,
            device=GPU,
            usage=Usage(sm_utilization=use),
            memory=Memory(peak_bytes=peak, limit_bytes=80 * GIB),
        )
    )

    held = {one.id: one for one in found.findings}
    assert (expected is not None) == ("oversized" in held)
    if expected is not None:
        assert expected == held["oversized"].evidence["mig_profile"]


def growing(score: float, *, slower: float = 0.0, grows: bool = True) -> list:
    """Inferences that each leave a cache behind."""
    made = series(40)
    return [
        one._replace(
            duration_s=0.05 * (1 + slower * at),
            cache=Cache(
                alive_bytes=(at + 1 if grows else 1) << 20, alive_count=at + 1, leak_score=score
            ),
        )
        for at, one in enumerate(made)
    ]


def test_caches_that_are_never_released():
    """Named before a processor that is well used."""
    assert ["kv_growth"] == named(verdict(growing(0.97)))[0]


def test_what_the_growth_costs_is_measured():
    """Later inferences take longer for the same tokens."""
    (first,) = verdict(growing(0.97, slower=0.05)).bottlenecks

    assert "kv_growth" == first.id
    assert 0.3 < first.share < 0.5


@pytest.mark.parametrize("fields", [{"score": 0.9}, {"score": 0.97, "grows": False}])
def test_a_low_score_or_a_steady_size_is_no_leak(fields):
    """Both are needed."""
    assert "kv_growth" not in claims(verdict(growing(**fields)))


def test_a_cache_that_was_released_at_the_end_is_no_leak():
    """What lives at the end decides, where metrics tell it."""
    states = [CacheState("Net", Device(""), 0, 0, 0.0)]

    assert "kv_growth" not in claims(verdict(Observation(growing(0.97), caches=states)))
