"""Device memory of one inference, with its exact peak and without stealing the user's counter.

torch has one peak for each device, and resetting it to learn the peak of an inference would spoil
what the user reads (vLLM sizes its KV cache by it). So the counter is virtualised: each open
inference and the user hold a peak of their own. At every open, close and reset by the user the
raw peak is folded into every holder, then reset. The user's own peaks are folded lazily, from
the raw readings, because a fold of all their counters costs more than an inference should pay.
"""

from __future__ import annotations

import functools
import os
import re
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

RawStats: TypeAlias = dict[Any, Any]
StatPath: TypeAlias = tuple[Hashable, ...]

_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_CUDA_REQUEST = re.compile(r"Tried to allocate ([0-9.]+) (bytes|KiB|MiB|GiB)")
_CPU_REQUEST = re.compile(r"you tried to allocate ([0-9]+) bytes")

# Raw readings that wait to be folded into the user's peaks, before they are folded at once.
_MAX_PENDING = 64


class MemoryReading(NamedTuple):
    """Counters of a device at one moment, in bytes."""

    allocated: int
    reserved: int
    retries: int


class PeakHolder:
    """The peak of one open inference on one device, in bytes."""

    __slots__ = ("__weakref__", "peak")

    def __init__(self, peak: int) -> None:
        self.peak = peak


class PeakLedger:
    """The peaks of one device.

    Args:
        read: gives the allocator's raw counters, as `torch._C._cuda_memoryStats(i)` nests them.
        reset: sets all raw peaks to the current values.
    """

    def __init__(self, read: Callable[[], RawStats], reset: Callable[[], None]) -> None:
        self._read = read
        self._reset = reset
        # Re-entrant: a finaliser that runs inside may free tensors and read counters.
        self._lock = threading.RLock()
        # Held by the inferences alone: one that was interrupted at its begin may not close its own.
        self._holders: dict[int, weakref.ref[PeakHolder]] = {}
        self._pending: list[RawStats] = []
        self._user: dict[StatPath, int] = {}

    def open(self) -> tuple[PeakHolder, MemoryReading]:
        """Begin to hold a peak for an inference."""
        with self._lock:
            raw = self._fold()
            reading = _reading(raw)
            holder = PeakHolder(reading.allocated)
            key = id(holder)
            self._holders[key] = weakref.ref(holder, functools.partial(self._holders.pop, key))
            return holder, reading

    def close(self, holder: PeakHolder) -> MemoryReading:
        """Stop holding; `holder.peak` is then the exact peak since `open`."""
        with self._lock:
            raw = self._fold()
            self._holders.pop(id(holder), None)
            return _reading(raw)

    def reset_user(self) -> None:
        """What the user's `reset_peak_memory_stats()` means: only the user's peaks restart."""
        with self._lock:
            self._fold()
            self._pending.clear()
            self._user.clear()

    def user_peaks(self) -> dict[StatPath, int]:
        """Peaks that the raw counters no longer show, by their path in the nested counters."""
        with self._lock:
            self._fold_pending()
            return dict(self._user)

    def _fold(self) -> RawStats:
        raw = self._read()
        self._reset()
        peak = raw["allocated_bytes"]["all"]["peak"]
        for reference in list(self._holders.values()):
            holder = reference()
            if holder is not None and peak > holder.peak:
                holder.peak = peak
        self._pending.append(raw)
        if len(self._pending) >= _MAX_PENDING:
            self._fold_pending()
        return raw

    def _fold_pending(self) -> None:
        for raw in self._pending:
            for path, peak in _peaks(raw, ()):
                if peak > self._user.get(path, 0):
                    self._user[path] = peak
        self._pending.clear()


def _peaks(counters: RawStats, path: StatPath) -> Iterator[tuple[StatPath, int]]:
    for name, value in counters.items():
        if isinstance(value, dict):
            yield from _peaks(value, (*path, name))
        elif name == "peak":
            yield path, value


def _reading(raw: RawStats) -> MemoryReading:
    return MemoryReading(
        raw["allocated_bytes"]["all"]["current"],
        raw["reserved_bytes"]["all"]["current"],
        raw.get("num_alloc_retries", 0),
    )


def requested_bytes(message: str) -> int | None:
    """The size of the allocation that failed, from the message of an out-of-memory error."""
    if match := _CUDA_REQUEST.search(message):
        return round(float(match[1]) * _UNITS[match[2]])
    if match := _CPU_REQUEST.search(message):
        return int(match[1])
    return None


def process_rss_bytes() -> int | None:
    """Resident memory of this process, where the system tells it by a file."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
