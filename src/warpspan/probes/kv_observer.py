"""The KV caches of one inference: noted as they pass by, measured when it ends or they die.

A step in a loop costs a look at the arguments and the output. A cache that is an object is measured
once, at the end of the inference, or, where the loop's function has returned by then, in the moment
in which it dies: its weak reference calls back while its layers, or its attributes, are still there.
A tuple is measured after every step.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from warpspan import guard
from warpspan.probes import clock, kv_cache
from warpspan.probes.kv_cache import Reading
from warpspan.probes.model import ModelInfo
from warpspan.probes.unseen import Unseen

if TYPE_CHECKING:
    from typing_extensions import Self

_FIRST, _SECOND = kv_cache.NAMES
_ALWAYS = -1
_MOST = 64
_EMPTY = Reading("other", 0, 0)


class CacheOwner(Protocol):
    """Something that wants to know when a cache is gone."""

    def freed(self, ref: CacheRef) -> None:
        """It is. Runs on whatever thread let go of it; must not wait."""


class HasCaches(Protocol):
    """An inference, which notes the caches in it."""

    cache_observer: CacheObserver | None


class CacheRef(weakref.ref[Any]):
    """A weak reference that knows when its cache died, so that nobody has to hold it to ask.

    Of a tuple, which can't be referred to, it is one to the first key.
    """

    __slots__ = ("died_ns", "on_freed")
    died_ns: int | None
    on_freed: CacheOwner | None

    def __new__(cls, cache: Any, on_freed: CacheOwner | None) -> Self:
        """A reference to a cache that tells its heir."""
        self = super().__new__(cls, cache, _stopped)
        self.died_ns = None
        self.on_freed = on_freed
        return self


def _stopped(ref: Any, now_ns: Callable[[], int] = clock.host_ns) -> None:
    # Bound here: at the end of the process caches may outlive the names of this module.
    ref.died_ns = now_ns()
    on_freed, ref.on_freed = ref.on_freed, None
    if on_freed is not None:
        on_freed.freed(ref)


class CacheTrack:
    """One cache in one inference.

    Args:
        entry: the model that it belongs to.
        start: its size when it was first seen.
        home: where it is taken from when it dies.
    """

    __slots__ = (
        "_final",
        "_first_shape",
        "_home",
        "_own",
        "_owner",
        "_parts",
        "_values",
        "end",
        "identity",
        "model_info",
        "ref",
        "start",
        "whole",
    )

    def __init__(
        self, model_info: ModelInfo, start: Reading, home: CacheObserver, identity: int
    ) -> None:
        self.model_info = model_info
        self.start = start
        self.identity = identity
        #: Whether it is an object, which stays the same as it grows; else it is a tuple.
        self.whole = True
        self._first_shape = start.shape
        self.end: Reading | None = None
        self.ref: CacheRef | None = None
        self._final = False
        self._home = home
        self._parts: list[weakref.ref[Any]] = []
        self._own = 0
        self._owner: type = object
        self._values: dict[str, Any] | None = None

    def follow(self, cache: Any) -> None:
        """Hear of its death, where it can be referred to weakly."""
        self.whole = not kv_cache.is_sequence(cache)
        try:
            self.ref = (
                CacheRef(cache, self) if self.whole else CacheRef(kv_cache.first_key(cache), None)
            )
        except TypeError as refused:
            guard.let_through(refused)
            self.ref = None

    def after_call(self, cache: Any, *, last: bool) -> None:
        """A call with it has ended, the only one of the inference where it is the last."""
        if self._parts or self._values is not None:
            return
        if last:
            self._final = True
            self.end = kv_cache.read(cache)
            return
        followed = self.whole and self.ref is not None
        found = kv_cache.layers_of(cache) if followed else None
        if found is None:
            self.end = kv_cache.read(cache)
            if self._first_shape is None:
                self._first_shape = self.end.shape
            if followed:  # its attributes, not itself: they are let go of when it dies
                self._values = getattr(cache, "__dict__", None)
        else:  # transformers adds layers in the first call
            self._parts = [weakref.ref(layer) for layer in found[0]]
            self._own = found[1]
        self._owner = type(cache)
        if self._parts or self._values is not None:
            self._home.steady = self.identity

    def counted(self, length: int | None) -> tuple[Reading, Reading]:
        """Its size before and after, with a tuple's tokens where its shapes tell them.

        Args:
            length: tokens in the input of the first call.
        """
        start, end = self.start, self.end or self.start
        if end.shape is None or end.tokens is not None:
            return start, end
        dimension = kv_cache.sequence_dimension(
            self._first_shape,
            end.shape,
            length if start.shape is None else None,
            usual=self.model_info.library == "transformers",
        )
        if dimension is None:
            return start, end
        if start.shape is not None:
            start = start._replace(tokens=start.shape[dimension])
        return start, end._replace(tokens=end.shape[dimension])

    def freed(self, ref: CacheRef) -> None:  # noqa: ARG002 - of all heirs
        """Measure it now or never: its layers, or its attributes, are still there."""
        values, self._values = self._values, None
        try:
            layers = [part() for part in self._parts]
            with Unseen():
                if values is not None:
                    self.end = kv_cache.read_values(self._owner, values)
                elif layers and None not in layers:
                    self.end = kv_cache.read_layers(self._owner, layers, self._own)
            self._home.lose(self)
        except Exception as error:
            guard.caught("kv cache", error)

    def close(self) -> None:
        """The inference has ended."""
        ref = self.ref
        if ref is None or not self.whole:
            return
        ref.on_freed = self._values = None
        if self._final:
            return
        cache = ref()
        if cache is not None:
            self.end = kv_cache.read(cache)


class CacheObserver:
    """The caches of one inference. No lock: changes of its containers are atomic."""

    __slots__ = ("_dead", "_live", "steady")

    def __init__(self) -> None:
        #: Id of the cache whose layers are known: a step with it has nothing more to tell.
        self.steady: int | None = None
        self._live: dict[int, CacheTrack] = {}
        self._dead: deque[CacheTrack] = deque(maxlen=_MOST)

    @property
    def tracks(self) -> list[CacheTrack]:
        """All caches that were measured at least once, those that died first."""
        tracks = [*self._dead, *self._live.values()]
        return [track for track in tracks if track.end is not None]

    def knows(self, kwargs: dict[str, Any]) -> bool:
        """Whether a call takes the cache whose layers are known."""
        return self.steady == id(kwargs.get(_FIRST))

    def enter(self, model_info: ModelInfo, cache: Any) -> CacheTrack | None:
        """A cache goes into a call; None where it is empty and has no identity."""
        key = _identity(cache)
        if key is None:
            return None
        track = self._live.get(key)
        if track is None:
            track = CacheTrack(model_info, kv_cache.read(cache), self, key)
            self._keep(key, track, cache)
            if not track.whole:  # it may not come out again
                track.end = track.start
        return track

    def leave(
        self, model_info: ModelInfo, track: CacheTrack | None, cache: Any, *, last: bool
    ) -> None:
        """A call has returned a cache, or None; the last one of the inference, or a step."""
        if cache is None:
            if track is not None and track.whole and track.ref is not None:
                cache = track.ref()
            if cache is None:
                return
        key = _identity(cache)
        if key is None:
            return
        known = self._live.get(key)
        if known is None:
            if track is not None and not track.whole:  # the next tuple of the same cache
                known = track
                known.model_info = model_info
            else:
                known = CacheTrack(model_info, _EMPTY, self, key)
            self._keep(key, known, cache)
        known.after_call(cache, last=last)

    def lose(self, track: CacheTrack) -> None:
        """A cache is gone."""
        self.steady = None
        for key, other in list(self._live.items()):
            if other is track:
                self._live.pop(key, None)
                self._dead.append(track)

    def close(self) -> None:
        """Measure what lives."""
        for track in list(self._live.values()):
            try:
                with Unseen():
                    track.close()
            except Exception as error:
                guard.caught("kv cache", error)

    def _keep(self, key: int, track: CacheTrack, cache: Any) -> None:
        track.follow(cache)
        if not track.whole:  # it replaces the tuple before it
            for old, other in list(self._live.items()):
                if other is track:
                    self._live.pop(old, None)
        if len(self._live) >= _MOST:
            oldest = next(iter(self._live), None)
            if oldest is not None and (lost := self._live.pop(oldest, None)) is not None:
                lost.ref = None
        self._live[key] = track


class CacheCall:
    """One call that may take or return a cache.

    Args:
        watch: the caches of its inference.
        model_info: the model that is called.
        args: of the call.
        kwargs: likewise.
        last: whether it is the whole inference; else it is a step.
    """

    __slots__ = ("_last", "_model_info", "_track", "observer")

    def __init__(
        self,
        observer: CacheObserver,
        model_info: ModelInfo,
        args: tuple[Any, ...],
        kwargs: Any,
        *,
        last: bool,
    ) -> None:
        self.observer = observer
        self._last = last
        self._model_info = model_info
        cache = kv_cache.taken(args, kwargs)
        self._track = None if cache is None else observer.enter(model_info, cache)
        if cache is not None:
            model_info.cache_looks = _ALWAYS

    def returned(self, result: Any) -> None:
        """The call returned this. Never raises."""
        try:
            with Unseen():
                cache = kv_cache.given(result)
                if cache is not None:
                    self._model_info.cache_looks = _ALWAYS
                elif self._model_info.cache_looks > 0:
                    self._model_info.cache_looks -= 1
                self.observer.leave(self._model_info, self._track, cache, last=self._last)
        except Exception as error:
            guard.caught("kv cache", error)


def cache_call_of(
    model_info: ModelInfo,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    inside: HasCaches | None = None,
) -> CacheCall | None:
    """The use of a KV cache that a call may make; None where it is taken to make none.

    Args:
        model_info: the model that is called.
        args: of the call.
        kwargs: likewise.
        inside: the inference that it is a step of; None where it is one itself.
    """
    try:
        if not model_info.cache_looks and (
            kwargs.get(_FIRST) is None
            and kwargs.get(_SECOND) is None
            and kwargs.get("use_cache") is not True
        ):
            return None
        with Unseen():
            if inside is None:
                return CacheCall(CacheObserver(), model_info, args, kwargs, last=True)
            if inside.cache_observer is None:
                inside.cache_observer = CacheObserver()
            return CacheCall(inside.cache_observer, model_info, args, kwargs, last=False)
    except Exception as error:  # a cache of the user's may do anything
        guard.caught("kv cache", error)
        return None


def _identity(cache: Any) -> int | None:
    """What a cache is known by: itself, or a tuple by its first storage."""
    if not kv_cache.is_sequence(cache):
        return id(cache)
    key = kv_cache.first_key(cache)
    return None if key is None else key.untyped_storage()._cdata
