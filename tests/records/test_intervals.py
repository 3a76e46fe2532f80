"""Sets of time: union, intersection, difference, gaps, against sets of single nanoseconds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from warpspan.records.intervals import Intervals

pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


def moments(intervals: Intervals) -> set[int]:
    return {moment for start, end in intervals for moment in range(start, end)}


def of(held: list[tuple[int, int]]) -> set[int]:
    return {moment for start, end in held for moment in range(start, end)}


@given(pairs)
def test_they_are_the_times_that_were_given(held):
    """Sorted and disjoint, whatever the order; empty and reversed ones are none."""
    intervals = Intervals(held)

    assert of(held) == moments(intervals)
    assert len(of(held)) == intervals.total_ns
    edges = [edge for pair in intervals for edge in pair]
    assert sorted(set(edges)) == edges


@given(pairs, pairs)
def test_they_are_sets(one, other):
    """Union, intersection and difference are those of the moments in them."""
    first, second = Intervals(one), Intervals(other)

    assert of(one) | of(other) == moments(first | second)
    assert of(one) & of(other) == moments(first & second)
    assert of(one) - of(other) == moments(first - second)


@given(pairs, st.integers(0, 60), st.integers(0, 60))
def test_a_part_is_what_lies_in_it(held, start, end):
    """Cut at both edges."""
    assert of(held) & set(range(start, end)) == moments(Intervals(held).within(start, end))


@given(pairs)
def test_gaps_fill_them_up(held):
    """With the gaps they are one interval from the first start to the last end."""
    intervals = Intervals(held)

    whole = intervals | intervals.gaps()

    assert 0 == (intervals & intervals.gaps()).total_ns
    expected = [] if not len(intervals) else [(intervals.start_ns, intervals.end_ns)]
    assert expected == list(whole)


def test_nothing_has_no_ends():
    """And equal sets are equal, with the same hash."""
    assert (None, None, 0, 0.0) == (
        Intervals().start_ns,
        Intervals().end_ns,
        Intervals().total_ns,
        Intervals().total_s,
    )
    assert {Intervals([(1, 3)])} == {Intervals([(2, 3), (1, 2)])}
    assert Intervals([(1, 3)]) != [(1, 3)]
    assert "Intervals([(1, 3)])" == repr(Intervals([(1, 3)]))
