"""When a capture is due by itself: a share of inferences, a count per period, or after a slow one."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Hashable
from statistics import median

from warpspan.config import Deep

BURST = 3
"""Consecutive inferences in one capture."""

_KINDS = 256
_LATEST = 128
_ENOUGH_FOR_MEDIAN = 3
_ENOUGH_FOR_SLOW = 64
_SLOW_QUANTILE = 0.99
_SLOW_PAUSE_NS = 60_000_000_000


class Untraced:
    """Times of the latest inferences that were not profiled, by kind; the oldest kinds go first."""

    def __init__(self) -> None:
        self._times: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def add(self, kind: Hashable, time_s: float) -> None:
        """Keep one more time."""
        times = self._times.get(kind)
        if times is None:
            times = self._times[kind] = deque(maxlen=_LATEST)
            if len(self._times) > _KINDS:
                self._times.popitem(last=False)
        else:
            self._times.move_to_end(kind)
        times.append(time_s)

    def median_s(self, kind: Hashable) -> float | None:
        """Their median in seconds, None where too few are known."""
        times = self._times.get(kind, ())
        return median(times) if len(times) >= _ENOUGH_FOR_MEDIAN else None

    def is_slow(self, kind: Hashable, time_s: float) -> bool:
        """Whether a time is beyond the 99th percentile of enough others."""
        times = self._times.get(kind, ())
        if len(times) < _ENOUGH_FOR_SLOW:
            return False
        return time_s > sorted(times)[int(_SLOW_QUANTILE * len(times))]


class Schedule:
    """Says after which inferences a capture begins.

    Args:
        deep: what the user chose; not one for the begin of the process.
        now_ns: host clock.
        chance: draws the distances of a share.
    """

    def __init__(self, deep: Deep, now_ns: int, chance: random.Random | None = None) -> None:
        self._deep = deep
        self._chance = chance or random.Random()  # noqa: S311 - no secret
        self._latest_ns = now_ns
        self._left = self._distance()

    @property
    def count(self) -> int:
        """Inferences in one capture."""
        return self._deep.burst or BURST

    def due(self, now_ns: int, *, slow: bool) -> bool:
        """Whether a capture begins now, after one more inference that was not profiled.

        Args:
            now_ns: host clock.
            slow: whether it was slow for its kind.
        """
        if self._deep.share is not None:
            self._left -= 1
            if self._left > 0:
                return False
            self._left = self._distance()
            return True
        pause_ns = _SLOW_PAUSE_NS if self._deep.slow else self._deep.period_s * 1e9
        if now_ns - self._latest_ns < pause_ns or (self._deep.slow and not slow):
            return False
        self._latest_ns = now_ns
        return True

    def _distance(self) -> float:
        """Inferences until the next capture: random, so that no pattern of requests is missed."""
        share = self._deep.share
        if share is None or share == 1:
            return 0.0
        return self._chance.expovariate(share / (BURST * (1 - share)))
