"""How methods of libraries are wrapped, with all their overrides, and given back.

Nothing here imports a library. A class is patched when its module has been imported, and with it
the subclasses that override the method: those that exist, and, through `__init_subclass__`, those
that come.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from time import perf_counter_ns
from types import FunctionType
from typing import Any

import torch

from warpspan import guard
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.module_call import Switch, in_place
from warpspan.runtime.library_calls import OpenCall, open_host_part, open_library_call, open_mark
from warpspan.runtime.scopes import current, unwind
from warpspan.runtime.steps import LoopScope

#: The attribute of what we put over a method: the switch that it is for.
MARK = "_warpspan_wraps"

Wrap = Callable[[Any], Callable[..., Any]]
#: Says what a call is, by the object, the arguments and the keyword arguments; None for nothing.
Open = Callable[[Any, tuple[Any, ...], dict[str, Any]], OpenCall | None]


class _Hook:
    """What is done around the calls of a method; false where they are as if they were not wrapped.

    A class of the user's that is pickled by value, as cloudpickle and dill do for those of a notebook,
    takes our wrapper with it. Its hook is pickled as `"".format`, which says no, as the empty string:
    where it is loaded, nothing of warpspan is needed, and nothing is recorded.
    """

    def __call__(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Any:
        """Whether a call is one for `run`."""
        raise NotImplementedError

    def run(
        self,
        function: Callable[..., Any],
        owner: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call the method."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, ("", "format")


class _Switched(_Hook):
    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    def __call__(self, *_: Any) -> Any:
        return self._switch.tracker is not None


def _wrapped(original: Any, hook: _Hook) -> Callable[..., Any]:
    """A method with a hook around it. It names nothing of ours but the hook, and no global."""
    function = _unbound(original)
    is_dynamo_compiling = torch.compiler.is_dynamo_compiling

    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling() or not hook(self, args, kwargs):
            return function(self, *args, **kwargs)
        return hook.run(function, self, args, kwargs)

    # With the globals of the original: dill pickles those of a function with it.
    its_globals = getattr(original, "__globals__", wrapper.__globals__)
    made = FunctionType(wrapper.__code__, its_globals, "wrapper", None, wrapper.__closure__)
    return functools.wraps(original)(made)


class _CallHook(_Switched):
    def __init__(self, switch: Switch, origin: str, open_: Open) -> None:
        super().__init__(switch)
        self._origin = origin
        self._open = open_

    def run(
        self,
        function: Callable[..., Any],
        owner: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        origin, tracker = self._origin, self._switch.tracker
        opened = library_call = None
        before = current.get()
        opening = True
        # An exception of a signal handler may come at any instruction, also in the first handler.
        try:
            try:
                if tracker is not None:
                    try:
                        opened = self._open(owner, args, kwargs)
                        if opened is not None:
                            library_call = open_library_call(tracker, opened)
                    except Exception as error:  # a library that changed its ways
                        guard.caught(origin, error)
                opening = False
                if tracker is None or opened is None or library_call is None:
                    return function(owner, *args, **kwargs)
                if library_call.recorded:
                    _guarded(origin, opened.opened, library_call)
                    library_call.begin(tracker.user_hooks, owner, args, kwargs)
                value = function(owner, *args, **kwargs)
                if library_call.recorded:
                    _guarded(origin, opened.result, value, library_call)
                    library_call.returned(value)
                library_call.close()
            except BaseException as error:
                if library_call is not None:
                    library_call.fail(error)
                    library_call.close()
                raise
        except BaseException:
            if library_call is not None:
                library_call.close()
            if opening:
                unwind(before)
            raise
        return value


def call(switch: Switch, origin: str, open_: Open) -> Wrap:
    """Wraps methods each call of which is an inference, or a part of the one that is open.

    Args:
        switch: off, calls are as if they were not wrapped.
        origin: whose faults are counted.
        open_: says what a call is.
    """
    return functools.partial(_wrapped, hook=_CallHook(switch, origin, open_))


def _guarded(origin: str, method: Callable[..., None], *args: Any) -> None:
    try:
        method(*args)
    except Exception as error:
        guard.caught(origin, error)


class _StepHook(_Switched):
    def __init__(self, switch: Switch, name: str | None) -> None:
        super().__init__(switch)
        self._name = name

    def run(
        self,
        function: Callable[..., Any],
        owner: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        tracker = self._switch.tracker
        mark = None
        before = current.get()
        opening = True
        try:
            try:
                if tracker is not None:
                    mark = open_mark(tracker, self._name)
                opening = False
                return function(owner, *args, **kwargs)
            finally:
                if mark is not None:
                    mark.close()
        except BaseException:
            if mark is not None:
                mark.close()
            if opening:
                unwind(before)
            raise


def step(switch: Switch, name: str | None) -> Wrap:
    """Wraps methods each call of which is one step of the inference that is open."""
    return functools.partial(_wrapped, hook=_StepHook(switch, name))


class _HostPartHook(_Switched):
    def __init__(self, switch: Switch, name: str) -> None:
        super().__init__(switch)
        self._name = name

    def run(
        self,
        function: Callable[..., Any],
        owner: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        steps = open_host_part(self._name)
        if steps is None:
            return function(owner, *args, **kwargs)
        began_ns = perf_counter_ns()
        try:
            return function(owner, *args, **kwargs)
        finally:
            steps.leave_part(perf_counter_ns() - began_ns)


def host_part(switch: Switch, name: str) -> Wrap:
    """Wraps methods whose host time is told apart where an inference is open.

    Args:
        switch: off, calls are as if they were not wrapped.
        name: `preprocess` or `postprocess`.
    """
    return functools.partial(_wrapped, hook=_HostPartHook(switch, name))


class _CompiledHook(_Hook):
    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    def __call__(self, *_: Any) -> Any:
        return True

    def run(
        self,
        function: Callable[..., Any],
        owner: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        return in_place(self._switch, function(owner, *args, **kwargs), owner)


def compiled(switch: Switch) -> Wrap:
    """Wraps methods that give a compiled form of their module: its calls are the module's."""
    return functools.partial(_wrapped, hook=_CompiledHook(switch))


class _BeforeHook(_Hook):
    def __init__(self, origin: str, first: Callable[[Any], None]) -> None:
        self._origin = origin
        self._first = first

    def __call__(self, owner: Any, *_: Any) -> Any:
        _guarded(self._origin, self._first, owner)
        return False


def thread(origin: str) -> tuple[Wrap, Wrap]:
    """Wraps a method that starts a thread and the one that runs there: its steps are the starter's."""
    loops: weakref.WeakKeyDictionary[Any, LoopScope] = weakref.WeakKeyDictionary()

    def note(self: Any) -> None:
        scope = current.get()
        if isinstance(scope, LoopScope) and scope.takes_steps:
            loops[self] = scope

    def join(self: Any) -> None:
        scope = loops.pop(self, None)
        if scope is not None:
            current.set(scope)

    def before(first: Callable[[Any], None]) -> Wrap:
        return functools.partial(_wrapped, hook=_BeforeHook(origin, first))

    return before(note), before(join)


def _unbound(original: Any) -> Callable[..., Any]:
    if type(original) is FunctionType:  # a proxy says that it is one, too
        return original

    # Another instrumentation's wrapper, which wants to know its instance.
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original.__get__(self, type(self))(*args, **kwargs)

    return call


class Family:
    """A class and its subclasses, the methods of which are wrapped. Holds no class alive.

    Args:
        base: the class.
        patches: where the patches are noted.
        switch: off, classes that come are left alone.
        origin: whose faults are counted.
    """

    def __init__(self, base: type[Any], patches: Patches, switch: Switch, origin: str) -> None:
        self._base = weakref.ref(base)
        self._switch = switch
        self._origin = origin
        self._wraps: dict[str, Wrap] = {}
        self._wrapped: weakref.WeakKeyDictionary[type, dict[str, weakref.ref[Any]]] = (
            weakref.WeakKeyDictionary()
        )
        patches.on_restore(self._restore)
        patches.apply(base, "__init_subclass__", classmethod(self._watching(base)))

    def wrap(self, method: str, wrap: Wrap) -> None:
        """Wrap a method, wherever a class of the family defines it."""
        self._wraps[method] = wrap
        base = self._base()
        for owner in () if base is None else _family(base):
            self._apply(owner, {method: wrap})

    def _watching(self, base: type[Any]) -> Callable[..., None]:
        former = vars(base).get("__init_subclass__")

        def __init_subclass__(cls: type[Any], /, **kwargs: Any) -> None:  # noqa: N807
            if former is None:
                super(base, cls).__init_subclass__(**kwargs)
            else:
                former.__get__(None, cls)(**kwargs)
            if self._switch.tracker is not None:
                self._apply(cls, self._wraps)

        return __init_subclass__

    def _apply(self, owner: type, wraps: dict[str, Wrap]) -> None:
        base = self._base()
        try:
            # Also what a mixin in front of the base overrides, as Whisper's did in old versions.
            for holder in owner.__mro__:
                for name, wrap in wraps.items():
                    self._apply_to(holder, name, wrap)
                if holder is base:
                    break
        except Exception as error:
            guard.caught(self._origin, error)

    def _apply_to(self, holder: type, name: str, wrap: Wrap) -> None:
        original = vars(holder).get(name)
        if not callable(original) or isinstance(original, (classmethod, staticmethod)):
            return  # without an object there is no call of the library's to tell about
        if getattr(original, "__isabstractmethod__", False):
            return
        # What somebody else has put over ours has its mark, too, if it was made by functools.wraps.
        if getattr(original, "__dict__", {}).get(MARK) is self._switch:
            return
        wrapper = wrap(original)
        setattr(wrapper, MARK, self._switch)
        setattr(holder, name, wrapper)
        self._wrapped.setdefault(holder, {})[name] = weakref.ref(wrapper)

    def _restore(self) -> list[str]:
        kept = []
        for owner, wrapped in list(self._wrapped.items()):
            for name, reference in wrapped.items():
                present: Any = vars(owner).get(name)
                if present is reference() and present is not None:
                    setattr(owner, name, present.__wrapped__)
                else:
                    kept.append(f"{owner.__name__}.{name}")
        self._wrapped.clear()
        return kept


def _family(base: type) -> Iterator[type]:
    seen: set[type] = set()
    waiting = [base]
    while waiting:
        owner = waiting.pop()
        if owner not in seen:
            seen.add(owner)
            waiting += type.__subclasses__(owner)
            yield owner
