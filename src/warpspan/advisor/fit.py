"""What an inference takes by the amount of work in it: fitted to what was measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

from warpspan.records import Inference

_FEW_SIZES = 3
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


def fit(inferences: Sequence[Inference]) -> Fit | None:
    """A line through the median times of each size, weighted by their numbers.

    The times are those on the device where they are known. Of inferences that overlapped, only
    those with the fewest others beside them count: company makes them slower.

    Returns:
        None where there are too few sizes, or where more work does not take more time.
    """
    unit = unit_of(inferences)
    alone = least_company(inferences)
    times: defaultdict[float, list[float]] = defaultdict(list)
    for one in alone:
        size = size_of(one, unit)
        if size is not None and one.error_type is None:
            times[size].append(one.timing.device_time_s or one.duration_s)
    enough = len(times) >= _FEW_SIZES or (
        len(times) == _FEW_SIZES - 1 and min(map(len, times.values())) >= _EACH
    )
    if not enough:
        return None
    points = sorted((size, median(held), len(held)) for size, held in times.items())
    line = _line(points)
    if line is None:
        return None
    seen = [size for one in inferences if (size := size_of(one, unit)) is not None]
    return Fit(*line, len(times), median(seen), max(seen), unit)


def least_company(inferences: Sequence[Inference]) -> list[Inference]:
    """Those with the fewest others beside them, at least a few of them."""
    by_level: defaultdict[int, list[Inference]] = defaultdict(list)
    for one in inferences:
        by_level[one.timing.concurrency or 1].append(one)
    found: list[Inference] = []
    for level in sorted(by_level):
        found += by_level[level]
        if len(found) >= _EACH:
            break
    return found


def _line(points: Sequence[tuple[float, float, int]]) -> tuple[float, float] | None:
    """Least squares, weighted; None where it does not rise or starts below 0."""
    weights = sum(weight for _, _, weight in points)
    mean_x = sum(x * weight for x, _, weight in points) / weights
    mean_y = sum(y * weight for _, y, weight in points) / weights
    spread = sum(weight * (x - mean_x) ** 2 for x, _, weight in points)
    if not spread:
        return None
    slope = sum(weight * (x - mean_x) * (y - mean_y) for x, y, weight in points) / spread
    start = mean_y - slope * mean_x
    if start < 0:  # more than proportional: nothing is fixed
        return 0.0, fmean(y / x for x, y, _ in points if x)
    return (start, slope) if slope >= 0 else (mean_y, 0.0)
