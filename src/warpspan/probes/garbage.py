"""Python's garbage collector: how long it stopped the process, and what it need not look at."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import MutableMapping
from typing import Any, TypeAlias

State: TypeAlias = tuple[int, int, int]

#: Collections so far, the nanoseconds they took, and when the counting began; None while nobody
#: counts. A tuple that is replaced, so that an inference pays for reading one name at its begin
#: and one at its end.
state: State | None = None
_began_ns = 0

# A model is warm once its lazy state exists: compiled code, workspaces, caches of the allocator.
_WARM_AFTER = 16


def watch() -> None:
    """Count collections from now on."""
    global state
    if state is None and hasattr(gc, "callbacks"):
        state = (0, 0, time.perf_counter_ns())
        gc.callbacks.append(_collecting)


def unwatch() -> None:
    """Count no more."""
    global state
    if state is not None:
        state = None
        gc.callbacks.remove(_collecting)


def between(began: State | None, ended: State | None) -> tuple[float | None, int | None]:
    """Seconds that collections took, and how many there were; None where not all were counted."""
    if began is None or ended is None or began[2] != ended[2]:
        return None, None
    return (ended[1] - began[1]) / 1e9, ended[0] - began[0]


def _collecting(phase: str, _: dict[str, int]) -> None:
    global _began_ns, state
    if phase == "start":
        _began_ns = time.perf_counter_ns()
    elif state is not None:
        state = (state[0] + 1, state[1] + time.perf_counter_ns() - _began_ns, state[2])


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
