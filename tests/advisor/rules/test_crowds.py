"""Batching and contention: what company and size cost, fitted to the data."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.observations import claims, inference, named, shares, verdict
from warpspan.advisor.fit import Fit, fit
from warpspan.advisor.observation import Observation


def crowd(
    levels: dict[int, int], time_s: Callable[[int, int], float], batches: tuple[int, ...] = (1,)
) -> Observation:
    """Inferences, so many at a time for each level, one batch of them after another.

    Args:
        levels: how many inferences run with so many at a time.
        time_s: of an inference by its batch and the number of those beside it.
        batches: sizes, in turn.
    """
    held, at_s = [], 0.0
    for beside, count in levels.items():
        for turn in range(count // beside):
            batch = batches[turn % len(batches)]
            duration_s = time_s(batch, beside)
            held += [
                inference(
                    at_s + member * 1e-6,
                    duration_s,
                    batch=batch,
                    timing={"concurrency": beside, "cpu_time_s": duration_s / beside},
                )
                for member in range(beside)
            ]
            at_s += duration_s + 0.001
    return Observation(held)


def test_inferences_that_compete_are_named():
    """Four at a time take five times as long: less gets done than one at a time."""
    found = verdict(crowd({1: 40, 4: 80}, lambda _, beside: {1: 0.02, 4: 0.1}[beside]))

    assert ["contention"] == named(found)[0]
    (first,) = found.bottlenecks
    evidence = {name: round(value, 2) for name, value in first.evidence.items()}
    assert {
        "low_concurrency": 1.0,
        "high_concurrency": 4.0,
        "time_ratio": 5.0,
        "throughput_ratio": 0.8,
        "waiting_for_a_core_share": 0.75,
    }.items() <= evidence.items()


def test_inferences_that_run_beside_each_other_are_not():
    """Four at a time take a little longer, and three times as much gets done."""
    found = verdict(crowd({1: 40, 4: 80}, lambda _, beside: {1: 0.02, 4: 0.026}[beside]))

    assert "contention" not in claims(found)


def test_larger_work_with_more_company_is_no_contention():
    """The same time per item: batches are larger when many run, and the fit knows it."""
    levels = {1: 60, 4: 80}
    seen = crowd(levels, lambda batch, beside: 0.01 * batch, batches=(1, 2, 4))
    larger = [
        one._replace(input=one.input._replace(batch_size=8), duration_s=0.08)
        if one.timing.concurrency == 4
        else one
        for one in seen.inferences
    ]

    assert "contention" not in claims(verdict(Observation(larger)))


def test_one_level_is_too_little():
    """What to compare with is missing."""
    found = verdict(crowd({4: 80}, lambda _, beside: 0.1))

    assert ("contention" in named(found)[2], "contention" in claims(found)) == (True, False)


def test_mostly_fixed_time_calls_for_larger_batches():
    """20 ms and 1 ms per item, and others beside them."""
    found = verdict(crowd({2: 120}, lambda batch, _: 0.02 + 0.001 * batch, batches=(1, 2, 4)))

    assert (["batching"], [0.91]) == (named(found)[0], shares(found, "batching"))


def test_without_demand_no_batch_is_asked_for():
    """One at a time, nobody waits."""
    found = verdict(crowd({1: 120}, lambda batch, _: 0.02 + 0.001 * batch, batches=(1, 2, 4)))

    assert "batching" not in claims(found)


def test_time_by_the_item_is_no_fault():
    """1 ms and 10 ms per item."""
    found = verdict(crowd({2: 120}, lambda batch, _: 0.001 + 0.01 * batch, batches=(1, 2, 4)))

    assert "batching" not in claims(found)


def test_one_size_is_too_little():
    """A fit takes three sizes."""
    found = verdict(crowd({2: 120}, lambda batch, _: 0.02))

    assert ("batching" in named(found)[2], "batching" in claims(found)) == (True, False)


@pytest.mark.parametrize("noisy", [False, True])
def test_a_fit_is_not_bent_by_a_few_slow_ones(noisy):
    """Medians of slopes: one in ten may take any time."""
    held = [inference(at, 0.01 + 0.002 * (at % 8 + 1), batch=at % 8 + 1) for at in range(80)]
    if noisy:
        held = [
            one._replace(duration_s=5.0) if at % 10 == 0 else one for at, one in enumerate(held)
        ]

    found = fit(held, [1.0] * len(held))

    assert found is not None
    expected = Fit(pytest.approx(0.01), pytest.approx(0.002), 8, 4.5, 8, "batch")
    assert expected == found


def test_lengths_make_tokens_the_size():
    """A batch of long sequences is more work than one of short ones."""
    held = [inference(at, 0.001 * (at % 5 + 1), batch=1, length=at % 5 + 1) for at in range(50)]

    found = fit(held, [1.0] * len(held))

    assert found is not None
    assert ("tokens", 5) == (found.unit, found.sizes)
