"""How many inferences ran beside each other, on average over the time of each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


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
