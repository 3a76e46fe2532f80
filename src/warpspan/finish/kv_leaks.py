"""KV caches from one inference to the next: what is still alive, and what looks like a leak.

A cache that goes from call to call is one life. Only weak references and numbers are kept.

The leak score follows scalene: it judges at new heights only, so that a steady state is never a
leak. When a turn begins (a new cache, or a known one that takes more than one token at once) and
the bytes alive by then are 1 % above the highest so far, the cache that grew last becomes a growth
candidate: it is cleared when it is released or cut below its size at that time. The score is one
minus Laplace's rule of succession for the next candidate to be cleared, over the last candidates;
where heights are no longer exceeded it is 0.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import Counter, OrderedDict, deque
from typing import TypeAlias

from warpspan.finish.draft import Contributor, Draft
from warpspan.probes import clock
from warpspan.probes.kv_cache import Reading
from warpspan.probes.kv_observer import CacheRef, CacheTrack
from warpspan.records import Cache, CacheState, Device, DropReason
from warpspan.runtime.window import Window

_HEIGHT = 1.01
# A score of 0.95 (scalene's threshold) takes 18 candidates of which none was cleared; with 64 of
# them two may have been.
_CANDIDATES = 64
# A linear growth makes a new height with every hundredth turn; ten times that is patience enough.
_PATIENCE_TURNS = 16
_PATIENCE_SHARE = 0.1
# A generation is one turn however long it is, but not if it never ends.
_STEPS_A_TURN = 1024
# Bounds of what is kept: about 0.8 kB a cache.
_LIVES = 16_384
_MODELS = 256
_CHECKS = 16


_GONE = Reading("other", 0)


class _Life:
    """One cache. Those without a pulse are judged by their storages."""

    __slots__ = ("alive", "born_ns", "family", "key", "reading", "ref", "steps")

    def __init__(self, family: _Family, born_ns: int) -> None:
        self.family = family
        self.born_ns = born_ns
        self.alive = True
        self.steps = 0
        self.key = 0
        self.ref: CacheRef | None = None
        self.reading = _GONE

    @property
    def size(self) -> int:
        return self.reading.size

    @property
    def held(self) -> bool:
        if self.ref is not None:
            return self.ref.died_ns is None
        return self.reading.held

    def freed(self, ref: CacheRef) -> None:
        self.family.freed.append((ref, self))


class GrowthCandidate:
    """A cache that made a new height, and its size at that time."""

    __slots__ = ("cleared", "life", "size")

    def __init__(self, life: _Life) -> None:
        self.life = life
        self.size = life.size
        self.cleared = False

    @property
    def open(self) -> bool:
        """Whether it may still be released."""
        return not self.cleared and self.life.alive


FreedCache: TypeAlias = tuple[CacheRef, _Life]


class _Family:
    """The caches of one model on one device."""

    def __init__(self, freed: deque[FreedCache]) -> None:
        self.freed = freed
        self.alive = 0
        self.count = 0
        self.latest: _Life | None = None
        self.candidates: deque[GrowthCandidate] = deque(maxlen=_CANDIDATES)
        self.since_ns: int | None = None
        self._height = 0
        self._turns = 0
        self._height_turn = 0

    def turn(self) -> None:
        """A turn begins: look at what the ones before it left."""
        self._turns += 1
        if self.alive <= self._height * _HEIGHT:
            return
        self._height, self._height_turn = self.alive, self._turns
        if self.latest is not None and self.latest.alive and self.latest.size:
            if not any(candidate.open for candidate in self.candidates):
                self.since_ns = self.latest.born_ns
            self.candidates.append(GrowthCandidate(self.latest))

    def resize(self, life: _Life, reading: Reading) -> None:
        self.alive += reading.size - life.size
        if reading.size < life.size:
            for candidate in self.candidates:
                if candidate.life is life and reading.size < candidate.size:
                    candidate.cleared = True
        life.reading = reading

    @property
    def score(self) -> float:
        quiet = self._turns - self._height_turn
        if not self.candidates or quiet > max(_PATIENCE_TURNS, self._turns * _PATIENCE_SHARE):
            return 0.0
        released = sum(not candidate.open for candidate in self.candidates)
        return 1 - (released + 1) / (len(self.candidates) + 2)


class KvLeaks(Contributor):
    """All caches of this process that inferences took or left, and the cache of each inference.

    Args:
        dropped: where those are counted that are given up, since too many are alive.
    """

    name = "kv cache"

    def __init__(self, dropped: Counter[str]) -> None:
        self._dropped = dropped
        self.reset()

    def reset(self) -> None:
        """Begin anew, as in a forked child."""
        # Re-entrant: a signal handler may flush while its thread collects metrics.
        self._lock = threading.RLock()
        self._families: dict[tuple[str, Device], _Family] = {}
        self._lives: OrderedDict[int, _Life] = OrderedDict()
        # Those whose cache object is gone or was a tuple: nobody tells when their memory goes.
        self._loose: OrderedDict[int, _Life] = OrderedDict()
        self._freed: deque[FreedCache] = deque()
        self._dead: list[tuple[int, int, CacheRef, _Life]] = []
        self._deaths = itertools.count()
        self._until_ns = 0

    def contribute(self, window: Window, draft: Draft) -> None:
        """Note the caches of an inference, and describe the largest."""
        if window.cache_observer is None:
            return
        # Finished later, it is judged by what was alive when it ended.
        span_ns = (window.began_ns, window.ended_ns)
        limit_bytes = window.runtime_device.limit_bytes
        # A whole generation is a turn, a module call may be one step of a longer one.
        turn = window.steps is not None
        for track in window.cache_observer.tracks:
            if track.end is None:
                continue
            start, end = track.counted(draft.input.sequence_length)
            cache = self._note(track, start, end, draft.device, draft.start_ns, span_ns, turn=turn)
            if draft.cache is None or end.size > (draft.cache.size_bytes or 0):
                weights = track.model_info.facts().parameter_bytes
                on_card = limit_bytes if end.kind != "offloaded" else None
                draft.cache = cache._replace(
                    weight_ratio=end.size / weights if weights else None,
                    utilization=end.size / on_card if on_card else None,
                )

    def _note(
        self,
        track: CacheTrack,
        start: Reading,
        end: Reading,
        device: Device,
        began_ns: int,
        span_ns: tuple[int, int],
        *,
        turn: bool,
    ) -> Cache:
        cache = Cache(
            type=end.kind,
            size_bytes=end.size,
            increase_bytes=end.size - start.size,
            tokens=end.tokens,
            token_increase=(
                None if end.tokens is None or start.tokens is None else end.tokens - start.tokens
            ),
            token_capacity=end.capacity,
            layers=end.layers,
        )
        with self._lock:
            self._take_out_freed(span_ns[0])
            self._check(_CHECKS)
            family = self._family(track.model_info.name, device)
            if family is not None and (track.ref is not None or end.first is not None):
                self._update(family, track, start, end, began_ns, span_ns[0], turn=turn)
                self._until_ns = max(self._until_ns, span_ns[1])
                self._take_out_freed(span_ns[1])
                score = family.score
                cache = cache._replace(
                    alive_bytes=family.alive,
                    alive_count=family.count,
                    leak_score=score,
                    leak_start_s=family.since_ns / 1e9 if family.since_ns and score else None,
                )
        lives = track.ref is not None and track.ref.died_ns is None
        return cache._replace(retained_bytes=end.size if lives or end.held else 0)

    def _family(self, model: str, device: Device) -> _Family | None:
        family = self._families.get((model, device))
        if family is None and len(self._families) < _MODELS:
            family = self._families[model, device] = _Family(self._freed)
        return family

    def states(self, *, caught_up: bool) -> list[CacheState]:
        """What metrics are made from when they are collected.

        Args:
            caught_up: whether all inferences that ended are noted; else what died since the last
                one that is has to wait, as it may be what the next ones went on from.
        """
        with self._lock:
            self._take_out_freed(clock.host_ns() if caught_up else self._until_ns)
            self._check(len(self._loose))
            return [
                CacheState(model, device, family.alive, family.count, family.score)
                for (model, device), family in self._families.items()
            ]

    def _update(
        self,
        family: _Family,
        track: CacheTrack,
        start: Reading,
        end: Reading,
        began_ns: int,
        since_ns: int,
        *,
        turn: bool,
    ) -> None:
        life = self._find(family, track, start, end, since_ns)
        known = life is not None
        if life is None:
            life = _Life(family, began_ns)
        else:
            family.resize(life, start)
        life.steps += 1
        if not known or turn or _takes_more_than_a_step(start, end, life.steps):
            life.steps = 0
            family.turn()
        if not known:
            if len(self._lives) >= _LIVES:
                self._release(next(iter(self._lives.values())))
                self._dropped[DropReason.KV_CACHE_FORGOTTEN.value] += 1
            family.count += 1
        family.resize(life, end)
        family.latest = life
        self._place(life, track.ref, _key(track, end))

    def _place(self, life: _Life, ref: CacheRef | None, key: int) -> None:
        self._lives.pop(life.key, None)
        self._loose.pop(life.key, None)
        if life.ref is not None:
            life.ref.on_freed = None
        life.ref, life.key = ref, key
        stale = self._lives.pop(key, None)
        if stale is not None:
            self._release(stale)
        self._lives[key] = life
        if ref is None:
            self._loose[key] = life
            return
        ref.on_freed = life
        if ref.died_ns is not None:  # before anybody was to be told
            ref.on_freed = None
            self._freed.append((ref, life))

    def _find(
        self, family: _Family, track: CacheTrack, start: Reading, end: Reading, since_ns: int
    ) -> _Life | None:
        for reading in (end, start):
            life = self._lives.get(_key(track, reading))
            if life is None or life.family is not family:
                continue
            died_ns = life.ref.died_ns if track.whole and life.ref is not None else None
            if died_ns is None or died_ns >= since_ns:  # else another object at its address
                return life
        return None

    def _take_out_freed(self, until_ns: int) -> None:
        """Take out those that were gone by then, unless somebody kept their tensors."""
        while self._freed:
            ref, life = self._freed.popleft()
            heapq.heappush(self._dead, (ref.died_ns or 0, next(self._deaths), ref, life))
        while self._dead and self._dead[0][0] <= until_ns:
            _, _, ref, life = heapq.heappop(self._dead)
            if not life.alive or life.ref is not ref:  # it goes on, as the next tuple
                continue
            if life.reading.first is not None and life.reading.held:
                self._place(life, None, life.reading.first.cdata)
            else:
                self._release(life)

    def _check(self, most: int) -> None:
        for _ in range(min(most, len(self._loose))):
            key, life = self._loose.popitem(last=False)
            if life.held:
                self._loose[key] = life
            else:
                self._release(life)

    def _release(self, life: _Life) -> None:
        if not life.alive:
            return
        life.alive = False
        life.family.alive -= life.size
        life.family.count -= 1
        if self._lives.get(life.key) is life:
            del self._lives[life.key]
        self._loose.pop(life.key, None)
        life.reading = _GONE
        if life.ref is not None:
            life.ref.on_freed = None
            life.ref = None


def _takes_more_than_a_step(start: Reading, end: Reading, steps: int) -> bool:
    if steps >= _STEPS_A_TURN:
        return True
    if start.tokens is None or end.tokens is None:
        return end.size > start.size
    return end.tokens - start.tokens > 1


def _key(track: CacheTrack, reading: Reading) -> int:
    """A cache object's address, negative; a tuple's first storage, which its reading pins."""
    if track.whole:
        return -track.identity
    return reading.first.cdata if reading.first is not None else 0
