"""A clock that moves only when it is told to."""

from __future__ import annotations

import threading

# 2026-01-01T00:00:00Z: any fixed moment keeps the timestamps of a test the same in every run.
_WALL_NS = 1_767_225_600_000_000_000
# A real host clock never reads zero, so this one doesn't either.
_HOST_NS = 1_000_000_000


class ScriptedClock:
    """Host time and wall time of a test, in whole nanoseconds. Safe to use from any thread.

    Args:
        wall_ns: Unix time in nanoseconds at which the clock starts.
    """

    def __init__(self, wall_ns: int = _WALL_NS) -> None:
        self._lock = threading.Lock()
        self._now_ns = _HOST_NS
        self._wall_offset_ns = wall_ns - _HOST_NS

    def now_ns(self) -> int:
        """Host time in nanoseconds, as `time.perf_counter_ns` gives it."""
        return self._now_ns

    def wall_ns(self) -> int:
        """Unix time in nanoseconds, as `time.time_ns` gives it."""
        return self._now_ns + self._wall_offset_ns

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on the host.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"a clock does not go back: advance({seconds!r})")
        with self._lock:
            self._now_ns += round(seconds * 1e9)

    def advance_to(self, now_ns: int) -> int:
        """Let time pass until host time `now_ns`; returns the nanoseconds that passed, if any."""
        with self._lock:
            passed_ns = max(0, now_ns - self._now_ns)
            self._now_ns += passed_ns
        return passed_ns
