"""Python's garbage collector: how long it stopped the process, and what it need not look at.

What is called at the begin and the end of a collection runs no Python code: a signal that comes
during a collection would have its handler run there, and what the handler raises would be lost,
since CPython drops what leaves such a callback.
"""

from __future__ import annotations

import functools
import gc
import itertools
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, TypeAlias

#: How many begins and ends of collections there were, the last of them being number 0; the
#: nanoseconds between begins and ends, summed; and a number that is another one each time when
#: counting begins. The first is odd while no collection runs, and only then is the second valid.
State: TypeAlias = tuple[int, int, int]

#: The state now, as the only item; None while nobody counts. An inference pays for reading it at
#: its begin and at its end.
state: deque[State | None] = deque([None], maxlen=1)
_callback: Callable[..., Any] | None = None
_sessions = itertools.count()

# A model is warm once its lazy state exists: compiled code, workspaces, caches of the allocator.
_WARM_AFTER = 16


def watch() -> None:
    """Count collections from now on."""
    global _callback
    if _callback is not None or not hasattr(gc, "callbacks"):
        return
    session = next(_sessions)
    state.append((-1, 0, session))
    _callback = _ticking(session)
    gc.callbacks.append(_callback)
    gc.collect(0)
    if state[0] != (1, state[0][1], session):  # type: ignore[index]
        unwatch()  # begun by what a collection runs: begins and ends would be mixed up


def unwatch() -> None:
    """Count no more."""
    global _callback
    if _callback is not None:
        gc.callbacks.remove(_callback)
        _callback = None
        state.append(None)


def between(began: State | None, ended: State | None) -> tuple[float | None, int | None]:
    """Seconds that collections took, and how many there were; None where not all were counted."""
    if began is None or ended is None or began[2] != ended[2] or not began[0] & ended[0] & 1:
        return None, None
    return (ended[1] - began[1]) / 1e9, (ended[0] - began[0]) // 2


def _each(iterator: Callable[[], Iterator[Any]]) -> Iterable[Any]:
    """Something that gets an iterator from a function in C each time when it is iterated."""
    # A static method is looked up on the class and called without arguments.
    return type("Each", (), {"__iter__": staticmethod(iterator)})()  # type: ignore[no-any-return]


def _ticking(session: int) -> Callable[..., Any]:
    """A function in C that takes any arguments, reads the clock, and brings `state` up to date.

    The sum of the times between begins and ends is the clock's value minus that sum at its last
    reading, and so on: after a begin the value is of no use, after an end it is the sum.
    """
    clock = iter(time.perf_counter_ns, None)
    ticks = zip(
        itertools.count(), itertools.accumulate(clock, int.__rsub__), itertools.repeat(session)
    )
    one = _each(functools.partial(itertools.islice, ticks, 1))
    take = _each(functools.partial(map, state.append, one))
    # `union` iterates at once over what it is given: `take`, the phase and the details.
    return functools.partial(frozenset().union, take)


class Freezer:
    """Takes what is alive once a model is warm out of all later collections.

    A full collection walks every object that the process holds: with torch imported and a model
    loaded that is about 100 ms in which no thread runs, and spans and requests set it off.
    """

    def __init__(self) -> None:
        self._calls: MutableMapping[Any, int] = weakref.WeakKeyDictionary()

    def finished(self, model: Any) -> None:
        """Count an inference of a model; the one that makes it warm freezes."""
        calls = self._calls.get(model, 0)
        if calls < _WARM_AFTER:
            self._calls[model] = calls + 1
            if calls + 1 == _WARM_AFTER and hasattr(gc, "freeze"):
                gc.collect()  # what is garbage now would stay for ever
                gc.freeze()
