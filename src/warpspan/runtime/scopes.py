"""The scope that a caller is in: a context variable, and what every scope has in common.

Six kinds exist: `NO_SCOPE`, a `Window` (one inference), a `LoopScope` (a loop inside one, whose module
calls are its steps), a `StepScope` (a module call inside a window that is not a module call itself), a
`MarkedStep` (a step that the user marks) and a `Skipped` (a call that is not recorded, so that nothing
inside it is either). `covers` answers the one question that every module call asks: is it part of a
call that is already open? `repeated` is the module, if any, whose call is a step like the last one.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any


class NoScope:
    """No call is open."""

    __slots__ = ()
    covers = takes_steps = False
    _token = repeated = None


class Skipped:
    """A call that is not recorded."""

    __slots__ = ("_token", "cache_call", "covers")
    takes_steps = False
    repeated = None

    def __init__(self) -> None:
        self.covers = True
        #: How it uses a KV cache, where it is a part of an inference.
        self.cache_call: Any = None
        self._token = current.set(self)

    @property
    def is_current(self) -> bool:
        """Whether it is the innermost scope of the caller."""
        return current.get() is self

    def fail(self, error: BaseException) -> None:
        """Nothing to remember."""

    def close(self) -> None:
        """Leave the call."""
        self.covers = False
        leave(self)


NO_SCOPE = NoScope()
current: ContextVar[Any] = ContextVar("warpspan_scope", default=NO_SCOPE)


def is_open(scope: Any) -> bool:
    """Whether it has not been closed."""
    return bool(scope.covers or scope.takes_steps)


def leave(scope: Any) -> bool:
    """Make current what was before; False where that is not this context's to do.

    A generator is closed where its consumer is, out of turn or in another context, and a task
    that was created inside holds a copy. A scope that stays behind covers nothing any more.
    """
    if scope._token is None or current.get() is not scope:
        return False
    try:
        current.reset(scope._token)
    except (RuntimeError, ValueError):  # used up, or made in the context that this is a copy of
        return False
    scope._token = None
    return True
