"""Calls of libraries that are one inference with steps: how their methods are wrapped.

Nothing here imports a library. A class is patched when its module has been imported, and with it
the subclasses that override the method: those that exist, and, through `__init_subclass__`, those
that come.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter_ns
from types import FunctionType
from typing import Any, Protocol

import torch

from warpspan import guard
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.module_call import Switch
from warpspan.runtime.library_calls import Loop, open_part
from warpspan.runtime.tracker import Tracker

_is_dynamo_compiling = torch.compiler.is_dynamo_compiling
_MARK = "_warpspan_wraps"

Wrap = Callable[[Any], Callable[..., Any]]


class Watch(Protocol):
    """One call of a library that is open."""

    loop: Loop | None

    def result(self, value: Any) -> None:
        """The call gave this. Only shapes and lengths are looked at."""


Open = Callable[[Tracker, Any, tuple[Any, ...], dict[str, Any]], Watch]


def loop(switch: Switch, open_: Open) -> Wrap:
    """Wraps methods each call of which is an inference, or a part of the one that is open.

    Args:
        switch: off, calls are as if they were not wrapped.
        open_: opens a call of the method.
    """

    def wrap(original: Any) -> Callable[..., Any]:
        call = _unbound(original)

        @functools.wraps(original)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            if _is_dynamo_compiling():
                return call(self, *args, **kwargs)
            tracker = switch.tracker
            watch = None
            if tracker is not None:
                try:
                    watch = open_(tracker, self, args, kwargs)
                except Exception as error:  # a library that changed its ways
                    guard.caught("begin", error)
            if watch is None or watch.loop is None:
                return call(self, *args, **kwargs)
            try:
                value = call(self, *args, **kwargs)
                _look_at(value, watch)
            except BaseException as error:
                watch.loop.fail(error)
                raise
            finally:
                watch.loop.close()
            return value

        return wrapper

    return wrap


def _look_at(value: Any, watch: Watch) -> None:
    if watch.loop is not None and watch.loop.sections is not None:
        try:
            watch.result(value)
        except Exception as error:
            guard.caught("result", error)


def part(switch: Switch, name: str) -> Wrap:
    """Wraps methods whose host time is told apart where an inference is open.

    Args:
        switch: off, calls are as if they were not wrapped.
        name: `preprocess` or `postprocess`.
    """

    def wrap(original: Any) -> Callable[..., Any]:
        call = _unbound(original)

        @functools.wraps(original)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            if _is_dynamo_compiling():
                return call(self, *args, **kwargs)
            tracker = switch.tracker
            steps = None if tracker is None else open_part(name)
            if steps is None:
                return call(self, *args, **kwargs)
            began_ns = perf_counter_ns()
            try:
                return call(self, *args, **kwargs)
            finally:
                steps.leave_part(perf_counter_ns() - began_ns)

        return wrapper

    return wrap


def _unbound(original: Any) -> Callable[..., Any]:
    if isinstance(original, FunctionType):
        return original

    # Another instrumentation's wrapper, which wants to know its instance.
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original.__get__(self, type(self))(*args, **kwargs)

    return call


def patch(
    patches: Patches, switch: Switch, base: type[Any] | None, wraps: Mapping[str, Wrap]
) -> None:
    """Wrap methods of a class, and their overrides in all its subclasses.

    Args:
        patches: where the patches are noted.
        switch: off, classes that come are left alone.
        base: the class, None where this version of its library has none.
        wraps: how to wrap each method, by its name.
    """
    if base is None:
        return

    def apply(owner: type) -> None:
        # Also what a mixin in front of the base overrides, as Whisper's did in old versions.
        for holder in owner.__mro__:
            for name, wrap in wraps.items():
                original = vars(holder).get(name)
                if not callable(original) or _MARK in getattr(original, "__dict__", {}):
                    continue
                if getattr(original, "__isabstractmethod__", False):
                    continue
                wrapper = wrap(original)
                setattr(wrapper, _MARK, True)
                patches.apply(holder, name, wrapper)
            if holder is base:
                break

    for owner in _family(base):
        try:
            apply(owner)
        except Exception as error:
            guard.caught("patch", error)
    former = vars(base).get("__init_subclass__")

    owner_of_all: type[Any] = base

    def __init_subclass__(cls: type[Any], /, **kwargs: Any) -> None:  # noqa: N807
        if former is None:
            super(owner_of_all, cls).__init_subclass__(**kwargs)
        else:
            former.__get__(None, cls)(**kwargs)
        if switch.tracker is not None:
            try:
                apply(cls)
            except Exception as error:
                guard.caught("patch", error)

    patches.apply(base, "__init_subclass__", classmethod(__init_subclass__))


def _family(base: type) -> Iterator[type]:
    seen: set[type] = set()
    waiting = [base]
    while waiting:
        owner = waiting.pop()
        if owner not in seen:
            seen.add(owner)
            waiting += type.__subclasses__(owner)
            yield owner
