"""How many inferences ran beside each other."""

from __future__ import annotations

import pytest

from tests.support.observations import inference
from warpspan.advisor.company import company, mean_concurrency
from warpspan.advisor.timeline import Window


def windows(*held) -> list[Window]:
    return [Window(one, one.start_ns, one.end_ns, (one.start_ns, one.end_ns)) for one in held]


def test_the_mean_over_the_time_counts():
    """One that is there for a tenth of the time is a tenth."""
    assert [1.1, 2.0, 1.0] == mean_concurrency([(0, 100), (90, 100), (100, 120)])


def test_an_empty_time_is_alone():
    """Nothing to divide by."""
    assert [1.0] == mean_concurrency([(5, 5)])


def test_none_is_none():
    """A device without inferences."""
    assert [] == company([])


def test_what_was_counted_stands_in_for_sampled_spans():
    """One of a hundred has a span: the others can't be seen in the file."""
    sampled = [inference(at, timing={"concurrency": 8}) for at in range(30)]

    assert [8.0] * 30 == company(windows(*sampled))


def test_times_count_where_all_have_spans():
    """The count of everyone that was ever there is too high."""
    pairs = [inference(at + beside / 100, 0.5, timing={"concurrency": 3})
             for at in range(10) for beside in range(2)]  # fmt: skip

    assert [pytest.approx(1.98)] * 20 == company(windows(*pairs))
