"""What an inference waited for and copied: raw counts on the caller's thread, read by the finisher."""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import torch

from warpspan import forks
from warpspan.probes.clock import Lease, take_event
from warpspan.records import (
    Direction,
    Site,
    SyncCall,
    SyncKind,
    SyncPlace,
    Syncs,
    Transfer,
    Transfers,
)

#: A copy's time is measured from this size on: below, two events cost about what the copy does.
TIMED_BYTES = 256 << 10
#: Copies of one inference that are timed, so that what is kept of it is bounded.
_TIMED_MAX = 256
# Walking the stack costs about 2 µs: nothing beside a stall of this length, so that each has its place.
_LONG_STALL_NS = 500_000
# From so many short waits of one kind on, the place of one of them is looked up, once.
REPEATED = 8
# Places that are kept apart while an inference runs; the waits at others are in the sums by kind.
_PLACES_KEPT = 64
# Of them, those on the span: with the most time.
_PLACES_TOLD = 8
# How long the record waits for a call that started before the device was done.
_HOLD_NS = 1_000_000_000

_POOL_SIZE = 512
_pools: dict[int, deque[Any]] = {}


class Turn:
    """A counted call, from its begin until nobody holds this any more.

    It needs no end: an exception of a signal handler may keep a call from saying that it ended.

    Args:
        counters: where it is counted.
    """

    __slots__ = ("__weakref__", "counters")

    def __init__(self, counters: SyncCopyCounters) -> None:
        self.counters = counters


# The counters of the calls that run now, in all threads, by a reference to each one's turn. That
# takes itself out in C, where no signal handler runs.
_running: dict[weakref.ref[Turn], SyncCopyCounters] = {}


def is_waiting() -> bool:
    """Whether a caller is in a call that waits for a device, or copies."""
    return bool(_running)


#: The start and end events of a copy.
Pair: TypeAlias = tuple[Lease, Lease]
#: Puts a question to the driver, which gives nothing while it can't be asked.
Ask: TypeAlias = Callable[[Callable[[], Any]], Any]


def lease_event(ordinal: int) -> Lease:
    """An event that was just recorded on the current stream of a CUDA device.

    Not to be called in a graph capture.
    """
    pool = _pools.get(ordinal)
    if pool is None:
        pool = _pools.setdefault(ordinal, deque(maxlen=_POOL_SIZE))
    event = take_event(pool)
    event.record(torch.cuda.current_stream(ordinal))
    return Lease(event, pool)


def _forget() -> None:
    """In a forked child the pools' events are the parent's, as are the calls that run."""
    forks.keep(dict(_pools))
    _pools.clear()
    _running.clear()


forks.join(in_child=_forget)


# Folders of torch and of warpspan, as they stand before the names of their files.
_OURS = tuple(
    f"{folder}{os.sep}" for folder in (Path(torch.__file__).parent, Path(__file__).parent.parent)
)


def call_site(frame: FrameType | None) -> Site | None:
    """Where a call comes from: the innermost frame that is neither torch's nor ours."""
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    if frame is None:
        return None
    code = frame.f_code
    name = getattr(code, "co_qualname", code.co_name)  # Python >= 3.11 has it
    module = frame.f_globals.get("__name__")
    return Site(code.co_filename, frame.f_lineno, f"{module}.{name}" if module else name)


class SyncCopyCounters:
    """The waits and copies of one inference.

    Locked, since its work may be spread over threads and its finisher is another one. `enter` gives
    each call that is counted a turn to hold, so that the inference is not finished meanwhile.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sealed = False
        self._held_until_ns: int | None = None
        self._kinds: dict[SyncCall, list[int]] = {}
        self._places: dict[tuple[SyncCall, Site], list[int]] = {}
        self._repeated: dict[SyncCall, Site | None] = {}
        self._longest: tuple[int, str, Site | None] = (-1, "", None)
        self._copies: dict[Direction, _Copies] = {}
        self._pinned = [0, 0, 0]

    def enter(self) -> Turn | None:
        """The turn of a call that begins now, to be held until its end; None for one not counted."""
        if self._sealed:
            return None
        turn = Turn(self)
        _running[weakref.ref(turn, _running.pop)] = self
        return turn

    def wants_site(self, kind: SyncCall, stalled_ns: int) -> bool:
        """Whether the place of this wait is worth walking the stack for."""
        if stalled_ns >= _LONG_STALL_NS:
            return True
        counted = self._kinds.get(kind)
        return counted is not None and counted[0] == REPEATED - 1

    def wait(self, kind: SyncCall, stalled_ns: int, site: Site | None = None) -> None:
        """Count a call that made the host wait."""
        with self._lock:
            counted = self._kinds.setdefault(kind, [0, 0])
            counted[0] += 1
            counted[1] += stalled_ns
            if counted[0] == REPEATED:
                self._repeated[kind] = site
            if site is not None:
                self._place(kind, site, stalled_ns)
            if stalled_ns > self._longest[0]:
                self._longest = (stalled_ns, kind, site if stalled_ns >= _LONG_STALL_NS else None)

    def _place(self, kind: SyncCall, site: Site, stalled_ns: int) -> None:
        place = self._places.get((kind, site))
        if place is None:
            if len(self._places) >= _PLACES_KEPT:
                return
            place = self._places[kind, site] = [0, 0]
        place[0] += 1
        place[1] += stalled_ns

    def copy(
        self,
        direction: Direction,
        nbytes: int,
        *,
        pageable: bool = False,
        weights: bool = False,
        events: Pair | None = None,
    ) -> None:
        """Count a copy over the bus.

        Args:
            direction: from where to where.
            nbytes: what crossed it.
            pageable: the host's side is not pinned.
            weights: it moves a model's parameters.
            events: around it, where it is timed.
        """
        with self._lock:
            self._copies.setdefault(direction, _Copies()).add(nbytes, pageable, weights, events)

    def pin(self, nbytes: int, spent_ns: int) -> None:
        """Count a copy into pinned memory that was made for it."""
        with self._lock:
            for index, amount in enumerate((1, nbytes, spent_ns)):
                self._pinned[index] += amount

    def settled(self, ask: Ask) -> bool:
        """Whether no counted call still runs and no copy is under way. Asks, never waits.

        A call that runs on for long is waited for no longer.

        Args:
            ask: puts a question to the driver, which gives nothing while that can't be asked.
        """
        if any(counters is self for counters in list(_running.values())):
            now = time.monotonic_ns()
            if self._held_until_ns is None:
                self._held_until_ns = now + _HOLD_NS
            return now >= self._held_until_ns
        return all(copies.settled(ask) for copies in list(self._copies.values()))

    def describe(self, device_time_s: float | None) -> tuple[Syncs | None, Transfers | None]:
        """What it was, once and for all: nothing is counted any more."""
        with self._lock:
            self._sealed = True
        return self._syncs(), self._transfers(device_time_s)

    def _syncs(self) -> Syncs | None:
        if not self._kinds:
            return None
        kinds = tuple(
            SyncKind(str(kind), count, stalled_ns / 1e9)
            for kind, (count, stalled_ns) in sorted(self._kinds.items())
        )
        longest_ns, longest_kind, site = self._longest
        most = max(kinds, key=lambda kind: kind.total)
        repeated = most.total >= REPEATED
        return Syncs(
            total=sum(kind.total for kind in kinds),
            stalled_s=sum(counted[1] for counted in self._kinds.values()) / 1e9,
            longest_kind=str(longest_kind),
            longest_s=longest_ns / 1e9,
            longest_site=site,
            repeated_kind=most.kind if repeated else None,
            repeated_site=self._repeated.get(SyncCall(most.kind)) if repeated else None,
            kinds=kinds,
            places=self._told_places(),
        )

    def _told_places(self) -> tuple[SyncPlace, ...]:
        most_time_first = sorted(self._places.items(), key=lambda place: -place[1][1])
        return tuple(
            SyncPlace(str(kind), site.file, site.line, site.function, total, stalled_ns / 1e9)
            for (kind, site), (total, stalled_ns) in most_time_first[:_PLACES_TOLD]
            if site.file is not None and site.line is not None and site.function is not None
        )

    def _transfers(self, device_time_s: float | None) -> Transfers | None:
        count, nbytes, spent_ns = self._pinned
        if not self._copies and not count:
            return None
        ways = {way: copies.transfer(device_time_s) for way, copies in self._copies.items()}
        return Transfers(
            h2d=ways.get(Direction.H2D),
            d2h=ways.get(Direction.D2H),
            d2d=ways.get(Direction.D2D),
            pin_count=count or None,
            pin_bytes=nbytes if count else None,
            pin_time_s=spent_ns / 1e9 if count else None,
        )


#: Of an inference that is finished and had neither.
SEALED = SyncCopyCounters()
SEALED.describe(None)


class _Copies:
    """The copies of one direction."""

    def __init__(self) -> None:
        self._count = self._bytes = self._pageable = self._weights = 0
        # Those that are timed: events of which nothing is known yet, their number so far, and
        # bytes and milliseconds.
        self._pairs: deque[Pair] = deque()
        self._timed = self._timed_bytes = 0
        self._timed_ms = 0.0
        self._untimed = False

    def add(self, nbytes: int, pageable: bool, weights: bool, events: Pair | None) -> None:
        self._count += 1
        self._bytes += nbytes
        if pageable:
            self._pageable += nbytes
        if weights:
            self._weights += nbytes
        if events is not None and self._timed < _TIMED_MAX:
            self._pairs.append(events)
            self._timed += 1
            self._timed_bytes += nbytes
        elif nbytes >= TIMED_BYTES:
            self._untimed = True

    def settled(self, ask: Ask) -> bool:
        while self._pairs:
            start, end = self._pairs[0]
            taken = ask(functools.partial(_elapsed_ms, start.event, end.event))
            if not taken:
                return False
            self._timed_ms += taken[0]
            self._pairs.popleft()
        return True

    def transfer(self, device_time_s: float | None) -> Transfer:
        time_s = None
        if self._timed and not self._pairs and not self._untimed:
            time_s = self._timed_ms / 1e3
        return Transfer(
            total=self._count,
            nbytes=self._bytes,
            pageable_bytes=self._pageable,
            weight_bytes=self._weights,
            time_s=time_s,
            bytes_per_s=self._timed_bytes / time_s if time_s else None,
            device_share=time_s / device_time_s if time_s is not None and device_time_s else None,
        )


def _elapsed_ms(start: Any, end: Any) -> tuple[float, ...]:
    """The time between two events; nothing while the second one is to come."""
    return (start.elapsed_time(end),) if end.query() else ()
