"""When a capture is due."""

from __future__ import annotations

import random

import pytest

from warpspan.config import Deep
from warpspan.deep.schedule import BURST, Schedule, Untraced

SECOND_NS = 1_000_000_000


def test_a_share_is_met_on_the_long_run():
    """Of 200,000 inferences, one in a hundred is in a capture."""
    schedule = Schedule(Deep(share=0.01), 0, random.Random(7))
    untraced = 200_000
    captured = BURST * sum(schedule.due(0, slow=False) for _ in range(untraced))
    assert 0.01 == pytest.approx(captured / (captured + untraced), rel=0.05)


def test_the_whole_share_is_always_due():
    """With a share of 1, each inference that is in none begins a capture."""
    schedule = Schedule(Deep(share=1.0), 0)
    assert [True, True] == [schedule.due(0, slow=False) for _ in range(2)]


def test_a_count_is_due_once_in_each_period():
    """Five in each minute: the first after a minute."""
    schedule = Schedule(Deep(burst=5, period_s=60), 0)
    times = (1, 59, 60, 61, 119, 120, 500)
    assert 5 == schedule.count
    assert [False, False, True, False, False, True, True] == [
        schedule.due(time * SECOND_NS, slow=False) for time in times
    ]


def test_slow_ones_are_due_once_a_minute():
    """Only a slow one, and no two within a minute."""
    schedule = Schedule(Deep(slow=True), 0)
    assert [False, True, False, True] == [
        schedule.due(time * SECOND_NS, slow=slow)
        for time, slow in ((70, False), (71, True), (100, True), (140, True))
    ]


def test_slow_is_what_nearly_all_others_of_its_kind_are_not():
    """Beyond 99 % of the latest; not judged before 64 of its kind are known."""
    untraced = Untraced()
    for number in range(64):
        assert not untraced.is_slow("a", 1e9)
        untraced.add("a", number)
    assert (False, True, False) == (
        untraced.is_slow("a", 63.0),
        untraced.is_slow("a", 63.5),
        untraced.is_slow("b", 1e9),
    )


def test_the_median_needs_three():
    """Of two nothing is said."""
    untraced = Untraced()
    untraced.add("a", 1.0)
    untraced.add("a", 9.0)
    assert untraced.median_s("a") is None
    untraced.add("a", 2.0)
    assert 2.0 == untraced.median_s("a")


def test_kinds_are_bounded():
    """Of a thousand kinds the latest 256 are kept."""
    untraced = Untraced()
    for kind in range(1000):
        for _ in range(3):
            untraced.add(kind, 1.0)
    assert [None, 1.0] == [untraced.median_s(743), untraced.median_s(744)]
