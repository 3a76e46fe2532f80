"""Statistics of two runs, on values made by hand and by seeded sources."""

from __future__ import annotations

import random

import pytest

from warpspan.report.compare_stats import Comparison, Statistic, compare, value_of


def noisy(count: int, seed: int, middle: float = 1.0) -> list[float]:
    """Independent values around a middle."""
    source = random.Random(seed)
    return [middle * source.lognormvariate(0, 0.3) for _ in range(count)]


def test_statistics_are_values_that_occurred():
    """Percentiles by nearest rank, as in a report."""
    values = [float(number) for number in range(100, 0, -1)]
    assert {"p50": 50.0, "p95": 95.0, "p99": 99.0, "mean": 50.5, "max": 100.0} == {
        statistic.value: value_of(statistic, values) for statistic in Statistic
    }


@pytest.mark.parametrize("statistic", [Statistic.P50, Statistic.MEAN])
def test_equal_runs_show_no_change(statistic):
    """A run against itself."""
    found = compare(statistic, [2.0] * 20, [2.0] * 20)
    assert Comparison(2.0, 2.0, 0.0, 0.0, 0.0, 0.01, 0, few=False) == found


@pytest.mark.parametrize(("factor", "shown"), [(0.8, -1), (1.25, 1)])
def test_a_change_beyond_the_noise_is_shown(factor, shown):
    """The interval holds the true change and not 0."""
    for statistic in (Statistic.P50, Statistic.P95, Statistic.MEAN):
        found = compare(statistic, noisy(1000, 1), noisy(1000, 2, factor))
        assert shown == found.shown
        assert found.low < factor - 1 < found.high
        assert found.low * found.high > 0


@pytest.mark.parametrize("statistic", list(Statistic))
def test_noise_is_rarely_taken_for_a_change(statistic):
    """Of runs of the same program at most one in eight shows a change."""
    wrong = [compare(statistic, noisy(200, seed), noisy(200, -seed)).shown for seed in range(1, 41)]
    assert sum(map(abs, wrong)) <= 5


def test_a_trend_is_no_noise():
    """A cache that grows all the time can be shown to have been cleared."""
    leaking = [float(number) for number in range(1, 101)]
    found = compare(Statistic.MEAN, leaking, [20.0 + value / 10 for value in noisy(100, 1)])
    assert -1 == found.shown
    assert found.low < found.change < found.high < 0


def test_neighbours_that_are_alike_widen_the_interval():
    """Values that wander say less than as many independent ones."""

    def wandering(seed: int) -> list[float]:
        source, place, values = random.Random(seed), 0.0, []
        for _ in range(1000):
            place = 0.95 * place + source.gauss(0, 0.1)
            values.append(10 + place)
        return values

    first, second, mixer = wandering(1), wandering(2), random.Random(0)
    for statistic in (Statistic.P50, Statistic.MEAN):
        alike = compare(statistic, first, second)
        mixed = compare(statistic, mixer.sample(first, 1000), mixer.sample(second, 1000))
        assert alike.high - alike.low > 1.5 * (mixed.high - mixed.low)


def test_what_too_few_values_do_not_have_is_absent():
    """No interval of fewer than five, no 99th percentile of fewer than a hundred."""
    assert Comparison(1.0, 2.0, 1.0, None, None, 0.01, 1, few=True) == compare(
        Statistic.P50, [1.0, 1.0, 1.0, 1.0], [2.0] * 100
    )
    assert [None, None] == [
        compare(Statistic.P95, [1.0] * 19, [1.0] * 20),
        compare(Statistic.P99, [1.0] * 100, [1.0] * 99),
    ]


def test_a_maximum_has_no_interval():
    """Its noise is the largest step between neighbouring eighths."""
    steady, jumping = [8.0] * 80, [8.0] * 70 + [10.0] * 10
    assert Comparison(8.0, 10.0, 0.25, None, None, 0.01, 1, few=False) == compare(
        Statistic.MAX, steady, [10.0] * 80
    )
    assert Comparison(10.0, 8.0, -1 / 5, None, None, 0.2, 0, few=False) == compare(
        Statistic.MAX, jumping, steady
    )._replace(change=-1 / 5)


def test_a_change_from_nothing_has_no_share():
    """It is shown by the difference."""
    found = compare(Statistic.MEAN, [0.0] * 10, [3.0] * 10)
    assert Comparison(0.0, 3.0, None, None, None, 0.01, 1, few=False) == found


def test_a_rate_is_the_inverse_of_a_mean():
    """Half the time between two events is twice the rate; events at one time have none."""
    found = compare(Statistic.MEAN, [0.5] * 10, [0.25] * 10, inverse=True)
    assert Comparison(2.0, 4.0, 1.0, 1.0, 1.0, 0.01, 1, few=False) == found
    assert compare(Statistic.MEAN, [0.0] * 10, [0.25] * 10, inverse=True) is None
