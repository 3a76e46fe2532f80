"""What an inference takes by the amount of work in it: fitted to what was measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from warpspan.records import Inference

_FEW_SIZES = 3
_COMPANY = 1.5
_MOST_POINTS = 200
"""Of more sizes, evenly spread ones: each pair of sizes has a slope."""
_EACH = 20
"""Three sizes give a fit, or two with twenty inferences each."""


class Fit(NamedTuple):
    """time = fixed_s + each_s · size.

    Args:
        fixed_s: what each inference takes, whatever its size.
        each_s: what each unit of size takes.
        sizes: how many sizes were seen.
        middle: the median size of all inferences.
        largest: the largest size seen.
        unit: what the size is: `batch`, or `tokens`, which is batch · sequence length.
    """

    fixed_s: float
    each_s: float
    sizes: int
    middle: float
    largest: float
    unit: str

    def time_s(self, size: float) -> float:
        """What an inference of a size takes."""
        return self.fixed_s + self.each_s * size

    @property
    def fixed_share(self) -> float:
        """Fixed part of the time of an inference of the median size."""
        return self.fixed_s / self.time_s(self.middle)


def unit_of(inferences: Sequence[Inference]) -> str:
    """Tokens where sequences differ in length, else the batch."""
    lengths = {one.input.sequence_length for one in inferences}
    return "tokens" if len(lengths) > 1 and None not in lengths else "batch"


def size_of(inference: Inference, unit: str) -> float | None:
    """The amount of work, None where it is not known."""
    batch, length = inference.input.batch_size, inference.input.sequence_length
    if unit == "batch" or batch is None:
        return batch
    return None if length is None else batch * length


def fit(inferences: Sequence[Inference], company: Sequence[float]) -> Fit | None:
    """A line through the times by size, by the medians of slopes (Theil and Sen): few slow ones bend it not.

    The times are those on the device where they are known. Of inferences that overlapped, only
    those with the least company count: it makes them slower.

    Args:
        inferences: to fit.
        company: how many ran during each on average.

    Returns:
        None where there are too few sizes.
    """
    unit = unit_of(inferences)
    times: defaultdict[float, list[float]] = defaultdict(list)
    for one in least_company(inferences, company):
        size = size_of(one, unit)
        if size is not None and one.error_type is None:
            times[size].append(one.timing.device_time_s or one.duration_s)
    enough = len(times) >= _FEW_SIZES or (
        len(times) == _FEW_SIZES - 1 and min(map(len, times.values())) >= _EACH
    )
    if not enough:
        return None
    points = sorted((size, median(held), len(held)) for size, held in times.items())
    points = points[:: -(-len(points) // _MOST_POINTS)]
    seen = [size for one in inferences if (size := size_of(one, unit)) is not None]
    return Fit(*_line(points), len(times), median(seen), max(seen), unit)


def least_company(inferences: Sequence[Inference], company: Sequence[float]) -> list[Inference]:
    """Those with at most one and a half times the least company, at least a few of them."""
    ranked = sorted(zip(company, range(len(inferences)), strict=True))
    limit = ranked[min(_EACH, len(ranked)) - 1][0]
    most = max(limit, _COMPANY * ranked[0][0])
    return [inferences[at] for beside, at in ranked if beside <= most]


def _line(points: Sequence[tuple[float, float, int]]) -> tuple[float, float]:
    """Start and slope, neither below 0."""
    slopes = [
        ((y - before_y) / (x - before_x), weight * before_weight)
        for at, (x, y, weight) in enumerate(points)
        for before_x, before_y, before_weight in points[:at]
    ]
    slope = max(_weighted_median(slopes), 0.0)
    start = _weighted_median([(y - slope * x, weight) for x, y, weight in points])
    return max(start, 0.0), slope


def _weighted_median(values: Sequence[tuple[float, int]]) -> float:
    ranked = sorted(values)
    half = sum(weight for _, weight in ranked) / 2
    for value, weight in ranked:
        half -= weight
        if half <= 0:
            return value
    return ranked[-1][0]
