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

from warpspan.guard import let_through


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
    if scope is NO_SCOPE or current.get() is not scope:
        return False
    try:
        current.reset(scope._token)
    except (RuntimeError, ValueError) as error:  # used up, or made in another context
        let_through(error)
        return False
    except (AttributeError, TypeError) as error:  # an interrupt came before it was kept
        let_through(error)
        return False
    scope._token = None
    return True


def unwind(before: Any) -> None:
    """Close what an interrupted call was about to open: all scopes inside `before`.

    An exception of a signal handler may come between any two instructions, also between one that
    makes a scope current and the next one.

    Args:
        before: what was current when the call began.
    """
    while (scope := current.get()) is not before and scope is not NO_SCOPE:
        scope.close()
        if current.get() is scope:  # the way back was lost
            current.set(before)


def left_by(error: BaseException, scope: Any, before: Any) -> None:
    """An exception left a module call: finish what it left half done. May be called again.

    Args:
        error: the exception.
        scope: of the call, None where it was not opened, or not known yet.
        before: what was current when the call began, which did not cover it.
    """
    if scope is None:
        scope = current.get()
        if scope is before:
            if not scope.covers:
                return
            scope = before.repeat  # a loop in a step that it repeats
        elif scope.takes_steps:  # not a call's: a generator's that is suspended
            return
    scope.fail(error)
    scope.close()
    if current.get() is scope:
        current.set(before)
