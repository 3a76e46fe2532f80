"""The counters of torch's caching allocator, kept as its source keeps them.

Blocks are rounded to 512 bytes and served from two pools, whose memory comes in segments of
2 MiB (blocks up to 1 MiB) or of 20 MiB and more, as in c10/cuda/CUDACachingAllocator.cpp. Segments
are not fragmented here: a pool grows only when its live blocks no longer fit.
"""

from __future__ import annotations

import threading
from typing import Any

import torch

_MIN_BLOCK = 512
_SMALL_LIMIT = 1 << 20
_SMALL_SEGMENT = 2 << 20
_LARGE_SEGMENT = 20 << 20
_LARGE_LIMIT = 10 << 20
_SEGMENT_ROUNDING = 2 << 20

_BLOCK_STATS = ("allocation", "active", "allocated_bytes", "active_bytes", "requested_bytes")
_SEGMENT_STATS = ("segment", "reserved_bytes")
# Kept by torch, always zero without fragmentation.
_SPLIT_STATS = ("inactive_split", "inactive_split_bytes")
_STATS = (*_BLOCK_STATS, *_SEGMENT_STATS, *_SPLIT_STATS)
_POOLS = ("all", "small_pool", "large_pool")

_ADVICE = (
    " If reserved but unallocated memory is large try setting"
    " PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
    "  See documentation for Memory Management "
    " (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
)


class Allocation:
    """A block of device memory: freed by `release`, or when nothing refers to it any more.

    Args:
        allocator: where it comes from.
        nbytes: its size in bytes as asked for.

    Raises:
        torch.cuda.OutOfMemoryError: the device has no room for it.
    """

    __slots__ = ("__weakref__", "_allocator", "nbytes")

    def __init__(self, allocator: Allocator, nbytes: int) -> None:
        self.nbytes = 0
        self._allocator = allocator
        self.resize(nbytes)

    @property
    def device_index(self) -> int:
        """Index of the device that it is on."""
        return self._allocator.index

    def resize(self, nbytes: int) -> None:
        """Change its size: a new block, then the old one is free, as a tensor's `resize_` does."""
        if nbytes != self.nbytes:
            self._allocator.allocate(nbytes)
            self._allocator.free(self.nbytes)
            self.nbytes = nbytes

    def release(self) -> None:
        """Give the block back. Nothing happens the second time."""
        nbytes, self.nbytes = self.nbytes, 0
        self._allocator.free(nbytes)

    def __del__(self) -> None:
        self.release()


class Allocator:
    """The caching allocator of one device. Safe to use from any thread.

    Args:
        index: the device, as torch counts.
        total_bytes: its memory.
    """

    def __init__(self, index: int, total_bytes: int) -> None:
        self.index = index
        self.total_bytes = total_bytes
        self._fail_in: int | None = None
        # Re-entrant: the garbage collector may free a tensor inside.
        self._lock = threading.RLock()
        self._stats = {name: {pool: _Stat() for pool in _POOLS} for name in _STATS}
        self._retries = self._ooms = self._segments_made = self._segments_freed = 0

    def allocate(self, nbytes: int) -> None:
        """Take a block of `nbytes`.

        Raises:
            torch.cuda.OutOfMemoryError: there is no room, or the script says so.
        """
        if not nbytes:
            return
        with self._lock:
            size, pool = _block(nbytes)
            segment = _segment(size)
            if self._is_scripted_failure() or not self._make_room(size, pool, segment):
                self._ooms += 1
                raise torch.cuda.OutOfMemoryError(self._message(segment))
            self._count_block(nbytes, +1)

    def free(self, nbytes: int) -> None:
        """Give a block of `nbytes` back; its segment stays reserved."""
        if nbytes:
            with self._lock:
                self._count_block(nbytes, -1)

    def fail(self, at: int) -> None:
        """Have the `at`-th allocation from now on fail."""
        with self._lock:
            self._fail_in = at

    def empty_cache(self) -> None:
        """Give segments that hold no block back to the device."""
        with self._lock:
            for pool in _POOLS[1:]:
                live = self._stats["allocated_bytes"][pool].current
                excess = self._stats["reserved_bytes"][pool].current - _round(
                    live, _SEGMENT_ROUNDING
                )
                if excess > 0:
                    self._count("reserved_bytes", pool, -excess)
                    empty = self._stats["segment"][pool].current - (1 if live else 0)
                    self._count("segment", pool, -empty)
                    self._segments_freed += empty

    def reset_peaks(self) -> None:
        """Let every peak be the current value."""
        with self._lock:
            for stat in self._all():
                stat.peak = stat.current

    def reset_accumulated(self) -> None:
        """Let every count of what happened so far be zero."""
        with self._lock:
            for stat in self._all():
                stat.allocated = stat.freed = 0
            self._retries = self._ooms = 0

    def stats(self) -> dict[str, Any]:
        """The nested counters that `torch._C._cuda_memoryStats` gives."""
        with self._lock:
            nested: dict[str, Any] = {
                name: {pool: stat.as_dict() for pool, stat in pools.items()}
                for name, pools in self._stats.items()
            }
            nested["oversize_allocations"] = _Stat().as_dict()
            nested["oversize_segments"] = _Stat().as_dict()
            nested["num_alloc_retries"] = self._retries
            nested["num_ooms"] = self._ooms
            nested["num_sync_all_streams"] = 0
            nested["num_device_alloc"] = self._segments_made
            nested["num_device_free"] = self._segments_freed
            nested["max_split_size"] = -1
            return nested

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes of the device."""
        return self.total_bytes - self._reserved, self.total_bytes

    @property
    def _reserved(self) -> int:
        return self._stats["reserved_bytes"]["all"].current

    def _all(self) -> list[_Stat]:
        return [stat for pools in self._stats.values() for stat in pools.values()]

    def _is_scripted_failure(self) -> bool:
        if self._fail_in is None:
            return False
        self._fail_in -= 1
        if self._fail_in > 0:
            return False
        self._fail_in = None
        self._retries += 1
        return True

    def _make_room(self, size: int, pool: str, segment: int) -> bool:
        live = self._stats["allocated_bytes"][pool]
        reserved = self._stats["reserved_bytes"][pool]
        if live.current + size <= reserved.current:
            return True
        if self._reserved + segment > self.total_bytes:
            self._retries += 1
            self.empty_cache()
            if self._reserved + segment > self.total_bytes:
                return False
        self._count("reserved_bytes", pool, segment)
        self._count("segment", pool, 1)
        self._segments_made += 1
        return True

    def _count_block(self, nbytes: int, sign: int) -> None:
        size, pool = _block(nbytes)
        for name, amount in zip(_BLOCK_STATS, (1, 1, size, size, nbytes), strict=True):
            self._count(name, pool, sign * amount)

    def _count(self, name: str, pool: str, change: int) -> None:
        for stat in (self._stats[name]["all"], self._stats[name][pool]):
            stat.change(change)

    def _message(self, segment: int) -> str:
        live = self._stats["allocated_bytes"]["all"].current
        free, total = self.memory_info()
        return (
            f"CUDA out of memory. Tried to allocate {_size_text(segment)}. GPU {self.index} has a "
            f"total capacity of {_size_text(total)} of which {_size_text(free)} is free. "
            f"Including non-PyTorch memory, this process has {_size_text(self._reserved)} memory "
            f"in use. Of the allocated memory {_size_text(live)} is allocated by PyTorch, and "
            f"{_size_text(self._reserved - live)} is reserved by PyTorch but unallocated.{_ADVICE}"
        )


class _Stat:
    __slots__ = ("allocated", "current", "freed", "peak")

    def __init__(self) -> None:
        self.current = self.peak = self.allocated = self.freed = 0

    def change(self, amount: int) -> None:
        self.current += amount
        self.peak = max(self.peak, self.current)
        if amount > 0:
            self.allocated += amount
        else:
            self.freed -= amount

    def as_dict(self) -> dict[str, int]:
        return {
            "current": self.current,
            "peak": self.peak,
            "allocated": self.allocated,
            "freed": self.freed,
        }


def _round(nbytes: int, unit: int) -> int:
    return -(-nbytes // unit) * unit


def _block(nbytes: int) -> tuple[int, str]:
    size = _round(nbytes, _MIN_BLOCK)
    return size, "small_pool" if size <= _SMALL_LIMIT else "large_pool"


def _segment(size: int) -> int:
    if size <= _SMALL_LIMIT:
        return _SMALL_SEGMENT
    return _LARGE_SEGMENT if size < _LARGE_LIMIT else _round(size, _SEGMENT_ROUNDING)


def _size_text(nbytes: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if nbytes > unit:
            return f"{nbytes / unit:.2f} {name}"
    return f"{nbytes} bytes"
