"""Functions of the user's that see the span of an inference, its arguments and its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from warpspan import guard

#: Takes the span, what is called, its arguments and its keyword arguments.
RequestHook: TypeAlias = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], object]
#: Takes the span, what was called, and its result.
ResponseHook: TypeAlias = Callable[[Any, Any, Any], object]


class Returned(Protocol):
    """Is told what a call returned."""

    def returned(self, result: Any) -> None:
        """The call returned this. Never raises."""


class UserHooks:
    """The hooks of one instrumentation, called for recorded spans on the caller's thread.

    What they raise is counted and logged once, and does not reach the program.

    Args:
        request: called before the call runs.
        response: called with what it returned.
    """

    def __init__(self, request: RequestHook | None, response: ResponseHook | None) -> None:
        self._request = request
        self._response = response

    def opened(
        self,
        span: Any,
        called: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inner: Returned | None = None,
    ) -> Returned | None:
        """An inference begins.

        Args:
            span: what was started for it.
            called: the module, or the library's object.
            args: of the call.
            kwargs: likewise.
            inner: who is told of the result besides.

        Returns:
            Who is to be told of the result.
        """
        if not span[-1]:  # not recorded
            return inner
        if self._request is not None:
            try:
                self._request(span[0], called, args, kwargs)
            except Exception as error:
                guard.caught("request_hook", error)
        return inner if self._response is None else _Hooked(self._response, span, called, inner)


class _Hooked:
    """Tells the response hook, after others, of a call's result."""

    __slots__ = ("_called", "_inner", "_response", "_span")

    def __init__(
        self, response: ResponseHook, span: Any, called: Any, inner: Returned | None
    ) -> None:
        self._response = response
        self._span = span
        self._called = called
        self._inner = inner

    def returned(self, result: Any) -> None:
        """The call returned this."""
        if self._inner is not None:
            self._inner.returned(result)
        called, self._called = self._called, None  # the window may outlive the model
        try:
            self._response(self._span[0], called, result)
        except Exception as error:
            guard.caught("response_hook", error)
