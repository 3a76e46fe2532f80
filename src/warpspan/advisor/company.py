"""How many inferences ran beside each other, on average over the time of each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from statistics import median

from warpspan.advisor.timeline import Window

_SEEN_SHARE = 0.25
"""If fewer of the others have a span, most of them were sampled out."""


def company(windows: Sequence[Window]) -> list[float]:
    """How many inferences were on a device on average during each of these, itself included.

    From their times; where most of the spans were sampled out, from what the inferences counted.
    """
    means = mean_concurrency([(window.start_ns, window.end_ns) for window in windows])
    counted = [window.inference.timing.concurrency or 1 for window in windows]
    if not windows or median(means) - 1 >= _SEEN_SHARE * (median(counted) - 1):
        return means
    return [float(count) for count in counted]


def mean_concurrency(times: Sequence[tuple[int, int]]) -> list[float]:
    """For each of these times, the mean number of them that are open during it, itself included.

    Unlike `pytorch.inference.concurrency`, which counts each one that was open at any moment of it.

    Args:
        times: start and end of each in nanoseconds, in any order.

    Returns:
        A number from 1 on for each, in their order.
    """
    changes = sorted(
        [(start_ns, 1) for start_ns, _ in times] + [(end_ns, -1) for _, end_ns in times]
    )
    moments = [at_ns for at_ns, _ in changes]
    open_after = [*accumulate(change for _, change in changes)]
    # Seconds times inferences until each moment; between two of them it grows linearly.
    area = [0]
    for at in range(1, len(moments)):
        area.append(area[-1] + open_after[at - 1] * (moments[at] - moments[at - 1]))

    def until(time_ns: int) -> int:
        at = bisect_right(moments, time_ns) - 1
        return area[at] + open_after[at] * (time_ns - moments[at])

    return [
        (until(end_ns) - until(start_ns)) / (end_ns - start_ns) if end_ns > start_ns else 1.0
        for start_ns, end_ns in times
    ]
