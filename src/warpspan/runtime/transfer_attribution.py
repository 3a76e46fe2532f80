"""Whose a copy or a wait is, inside an inference and around it.

Inside an inference it is the innermost open one's. Copies to the device between two inferences are
inputs of the next one; a wait or a copy from the device after an inference is that inference's, as
long as it is not finished, which it never is before its device is done. What crosses to another
thread, asyncio task or trace belongs to nobody.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextvars import ContextVar
from typing import Any, TypeAlias

from warpspan import forks
from warpspan.probes.transfers import SyncCopyCounters, Turn
from warpspan.runtime.scopes import Skipped, current, is_open
from warpspan.runtime.steps import LoopScope, MarkedStep, StepScope
from warpspan.runtime.window import SpanSource, Window

_get_ident = threading.get_ident
_running_loop = asyncio._get_running_loop
_current_task = asyncio.current_task

#: The thread, and the asyncio task on it. A copied context is somebody else's.
_Owner: TypeAlias = tuple[int, int]


class _Arrivals:
    """What was copied to devices since the last inference."""

    __slots__ = ("counters", "owner", "request", "spans", "taken")

    def __init__(self, owner: _Owner, request: int, spans: SpanSource) -> None:
        self.owner = owner
        self.request = request
        self.spans = spans
        self.counters = SyncCopyCounters()
        self.taken = False


_before: ContextVar[_Arrivals | None] = ContextVar("warpspan_arrivals", default=None)
# The last inference is held weakly: it lives until it is finished, in the queue.
_after: ContextVar[tuple[weakref.ref[Window], _Owner] | None] = ContextVar(
    "warpspan_last", default=None
)


class TransferAttribution:
    """Finds the inference that a copy or a wait belongs to, for one instrumentation.

    Args:
        spans: knows the request that is current.
    """

    def __init__(self, spans: SpanSource) -> None:
        self._spans = spans
        self._any_ended = False

    def waited_for(self) -> Turn | None:
        """Of the inference that a wait, or a copy from the device, belongs to; None for nobody's."""
        window = _open_window(current.get())
        if window is None:
            last = _after.get()
            if last is None or last[1] != _owner():
                return None
            window = last[0]()
            if window is None or self._spans.request(window.span) != self._spans.request(None):
                return None
        counters = window.counters
        return None if counters is None else counters.enter()

    def arriving(self, *, weights: bool) -> Turn | None:
        """Of the inference that a copy to the device belongs to, which may be the next one.

        Weights before the first inference are a model being loaded.
        """
        window = _open_window(current.get())
        if window is not None:
            counters = window.counters
        elif weights and not self._any_ended:
            return None
        else:
            arrivals, owner, request = _before.get(), _owner(), self._spans.request(None)
            if arrivals is None or not self._is_ours(arrivals, owner, request):
                arrivals = _Arrivals(owner, request, self._spans)
                _before.set(arrivals)
            counters = arrivals.counters
        return None if counters is None else counters.enter()

    def take(self) -> SyncCopyCounters | None:
        """What arrived for the inference that begins now."""
        arrivals = _before.get()
        if arrivals is None:
            return None
        _before.set(None)
        if not self._is_ours(arrivals, _owner(), self._spans.request(None)):
            return None
        arrivals.taken = True
        return arrivals.counters

    def forget(self) -> None:
        """What arrived was for a call that is not recorded."""
        if _before.get() is not None:
            _before.set(None)

    def ended(self, window: Window) -> None:
        """An inference on a device ended on the host."""
        self._any_ended = True
        _after.set((weakref.ref(window), _owner()))

    def _is_ours(self, arrivals: _Arrivals, owner: _Owner, request: int) -> bool:
        return (
            not arrivals.taken
            and arrivals.owner == owner
            and arrivals.request == request
            and arrivals.spans is self._spans
        )


def _forget() -> None:
    """In a forked child: what was is the parent's."""
    forks.keep(_before.get(), _after.get())
    _before.set(None)
    _after.set(None)


forks.join(in_child=_forget)


def _open_window(scope: Any) -> Window | None:
    while isinstance(scope, (MarkedStep, LoopScope, Window, StepScope, Skipped)):
        if isinstance(scope, Window) and is_open(scope):
            return scope
        scope = None if scope._token is None else scope._token.old_value
    return None


def _owner() -> _Owner:
    loop = _running_loop()
    return _get_ident(), 0 if loop is None else id(_current_task(loop))
