"""How sure a difference of two runs is: bootstrap intervals and the noise inside each run.

Pure Python, since neither warpspan nor its dependencies need numpy. All of it is deterministic.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import fsum, isqrt, sqrt
from typing import NamedTuple

from warpspan.records.enums import StrEnum
from warpspan.report.quantiles import rank

DRAWS = 2_000
#: The interval holds this share of the draws.
CONFIDENCE = 0.95
#: Values that a run needs for an interval.
LEAST_FOR_INTERVAL = 5
#: A smaller change is noise, however steady both runs are: clocks and machines differ by as much.
NOISE_MIN = 0.01
_BLOCKS_MAX = 50
_NOISE_BLOCKS = 8


class Statistic(StrEnum):
    """What is made of the values of a run; percentiles are nearest ranks."""

    P50 = "p50"
    P95 = "p95"
    P99 = "p99"
    MEAN = "mean"
    MAX = "max"


#: Values that a statistic needs in each run.
LEAST = {Statistic.P95: 20, Statistic.P99: 100}
_PERCENT = {Statistic.P50: 50, Statistic.P95: 95, Statistic.P99: 99}


class Comparison(NamedTuple):
    """One statistic of two runs.

    Args:
        before: its value in the first run.
        after: in the second one.
        change: after / before - 1, None where the value before is not above 0.
        low: lower end of the 95 % interval of the change, None without an interval.
        high: its upper end.
        noise: the change below which it is noise, as a share of the value before.
        shown: 1 where it rose, -1 where it fell, 0 where no change is shown.
        few: whether a run has too few values for an interval.
    """

    before: float
    after: float
    change: float | None
    low: float | None
    high: float | None
    noise: float
    shown: int
    few: bool


def compare(
    statistic: Statistic, before: Sequence[float], after: Sequence[float], *, inverse: bool = False
) -> Comparison | None:
    """Compare a statistic of two runs, None where one of them has too few values for it.

    A change is shown where its interval does not hold 0, and where it exceeds the noise. Without
    an interval (of a maximum, or of fewer than `LEAST_FOR_INTERVAL` values) the noise decides.

    Args:
        statistic: which.
        before: values of the first run in the order of time.
        after: of the second run.
        inverse: compare the inverse of the statistic: a rate from the times between events.
    """
    if min(len(before), len(after)) < LEAST.get(statistic, 1):
        return None
    form: Callable[[float], float | None] = _inverse if inverse else float
    first, second = form(value_of(statistic, before)), form(value_of(statistic, after))
    if first is None or second is None:
        return None
    noise = max(NOISE_MIN, _noise(statistic, before), _noise(statistic, after))
    low, high, ranges = _interval(statistic, before, after, form)
    difference = second - first
    shown = (difference > 0) - (difference < 0)
    if abs(difference) <= noise * abs(first) or (ranges is not None and not ranges):
        shown = 0
    change = second / first - 1 if first > 0 else None
    few = min(len(before), len(after)) < LEAST_FOR_INTERVAL
    return Comparison(first, second, change, low, high, noise, shown, few)


def value_of(statistic: Statistic, values: Sequence[float]) -> float:
    """The statistic of at least one value."""
    if statistic is Statistic.MEAN:
        return fsum(values) / len(values)
    if statistic is Statistic.MAX:
        return max(values)
    return sorted(values)[rank(_PERCENT[statistic], len(values))]


def _interval(
    statistic: Statistic,
    before: Sequence[float],
    after: Sequence[float],
    form: Callable[[float], float | None],
) -> tuple[float | None, float | None, bool | None]:
    """The ends of the interval of the change, and whether that of the difference excludes 0."""
    if statistic is Statistic.MAX or min(len(before), len(after)) < LEAST_FOR_INTERVAL:
        return None, None, None
    source = random.Random(0)  # noqa: S311 - not for secrets
    pairs = []
    for one, other in zip(
        _draws(statistic, before, source), _draws(statistic, after, source), strict=True
    ):
        first, second = form(one), form(other)
        if first is not None and second is not None:
            pairs.append((first, second))
    if len(pairs) < DRAWS:
        return None, None, None
    least, most = _middle([second - first for first, second in pairs])
    excludes = least > 0 or most < 0
    if min(first for first, _ in pairs) <= 0:
        return None, None, excludes
    return *_middle([second / first - 1 for first, second in pairs]), excludes


def _middle(draws: list[float]) -> tuple[float, float]:
    draws.sort()
    outside = round(len(draws) * (1 - CONFIDENCE) / 2)
    return draws[outside], draws[-1 - outside]


def _draws(statistic: Statistic, values: Sequence[float], source: random.Random) -> list[float]:
    """The statistic of `DRAWS` samples drawn from the values with replacement.

    Of a percentile without drawing the samples: the k-th of n values drawn is the value at the
    share U of the sorted ones, where U has the distribution Beta(k, n - k + 1)
    (https://en.wikipedia.org/wiki/Order_statistic). Values that follow one another are alike, so
    that n is divided by the design effect. A mean is drawn from means of consecutive values, as in
    the block bootstrap (Künsch 1989, https://doi.org/10.1214/aos/1176347265), expanded for few
    blocks (Hesterberg 2015, https://doi.org/10.1080/00031305.2015.1089789, section 3.3).
    """
    if statistic is Statistic.MEAN:
        means = _block_means(values, _block_count(values))
        count, mean = len(means), fsum(means) / len(means)
        # Student's quantile over the normal one, in its expansion by degrees of freedom.
        wider = (count / (count - 1)) ** 0.5 * (1 + (1.96**2 + 1) / (4 * (count - 1)))
        return [
            mean + wider * (fsum(source.choices(means, k=count)) / count - mean)
            for _ in range(DRAWS)
        ]
    ordered = sorted(values)
    count = len(ordered)
    index = rank(_PERCENT[statistic], count)
    effect = _design_effect(values, ordered[index])
    above, below = (index + 1) / effect, (count - index) / effect
    return [
        ordered[min(int(source.betavariate(above, below) * count), count - 1)] for _ in range(DRAWS)
    ]


def _design_effect(values: Sequence[float], cut: float) -> float:
    """By how much the values below a cut vary more between blocks than independent ones would.

    From differences of neighbouring blocks, so that a trend over the whole run does not count.
    """
    if len(values) < 4 * _NOISE_BLOCKS:
        return 1.0
    shares = _block_means([float(value <= cut) for value in values], _block_count(values))
    mean = fsum(shares) / len(shares)
    independent = mean * (1 - mean) * len(shares) / len(values)
    if independent <= 0:
        return 1.0
    steps = [(one - other) ** 2 for one, other in pairwise(shares)]
    return max(1.0, fsum(steps) / (2 * len(steps)) / independent)


def _noise(statistic: Statistic, values: Sequence[float]) -> float:
    """How far neighbouring eighths of a run lie apart on average, as a share of the whole."""
    whole = value_of(statistic, values)
    parts = [
        value_of(statistic, part) for part in _blocks(values, min(_NOISE_BLOCKS, len(values) // 4))
    ]
    if whole <= 0 or len(parts) < 2:
        return 0.0
    steps = [abs(one - other) for one, other in pairwise(parts)]
    if statistic is Statistic.MAX:
        return max(steps) / whole  # longer runs don't make a maximum steadier
    # A whole run of as many independent parts varies by the root of their number less.
    return fsum(steps) / len(steps) / whole / sqrt(len(parts))


def _blocks(values: Sequence[float], count: int) -> list[Sequence[float]]:
    """At most `count` parts of about the same length, in the order of the values."""
    count = max(1, min(count, len(values)))
    edges = [len(values) * number // count for number in range(count + 1)]
    return [values[start:end] for start, end in pairwise(edges)]


def _block_count(values: Sequence[float]) -> int:
    """Blocks that are as long as there are many of them, and not too few for a variance."""
    return min(_BLOCKS_MAX, max(isqrt(len(values)), min(len(values), _NOISE_BLOCKS)))


def _block_means(values: Sequence[float], count: int) -> array[float]:
    return array("d", [fsum(block) / len(block) for block in _blocks(values, count)])


def _inverse(value: float) -> float | None:
    return 1 / value if value > 0 else None
