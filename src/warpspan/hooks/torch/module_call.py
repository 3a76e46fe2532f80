"""The call of a module: the outermost one in a context is an inference.

`Module.__call__` itself is left alone: `Module._call_impl`, which it calls, gets the test and the
scope into its own code (`call_code.py`), so that neither a frame nor a function is added. Where that
code can't be had, a wrapper does the same with two frames more. Dynamo is shown torch's original.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from torch.fx import _symbolic_trace
from torch.nn import Module

from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.call_code import with_scope
from warpspan.hooks.torch.dynamo import hide, leave_out, show, shown_as, skip_code, skip_frame
from warpspan.runtime.scopes import current, left_by
from warpspan.runtime.tracker import Tracker

_scope = current.get
_COMPILED = "_compiled_call_impl"
_torchs_own = Module._wrapped_call_impl
# The first that there is; torch 2.9 logs a warning where the last is asked.
_is_fx_tracing: Callable[[], bool] = next(
    getattr(_symbolic_trace, name)
    for name in ("_get_is_fx_tracing", "is_fx_symbolic_tracing", "is_fx_tracing")
    if hasattr(_symbolic_trace, name)
)


class Switch:
    """Says whether calls are recorded, and opens their scopes: off, it opens none."""

    __slots__ = ("tracker",)

    def __init__(self, tracker: Tracker) -> None:
        self.tracker: Tracker | None = tracker

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # a class of the user's that has our mark is pickled without us

    # Dynamo looks at no frame below these: not at ours, and not at span processors of the user's.

    @leave_out
    def open(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A scope for a module's call that nothing open covers; None where it passes without one."""
        tracker = self.tracker
        # fx puts its own in the place of `__call__` while it traces; its question costs more.
        if tracker is None or (Module.__call__ is not _torchs_own and _is_fx_tracing()):
            return None
        return tracker.open_call(module, args, kwargs)

    @leave_out
    def returned(self, scope: Any, result: Any) -> Any:
        """The result of a call, whose scope has seen it then and is closed."""
        if scope.cache_call is not None:
            scope.cache_call.returned(result)
        scope.close()
        return result

    @leave_out
    def left_by(self, error: BaseException, scope: Any, before: Any) -> None:
        """An exception left a call; see `scopes.left_by`."""
        left_by(error, scope, before)


def patch(patches: Patches, tracker: Tracker) -> Switch:
    """Have the outermost calls of modules recorded; the result switches it off."""
    switch = Switch(tracker)
    function: Any = Module._call_impl
    if not _rewrite(patches, switch, function):
        patches.apply(Module, "_call_impl", _around(switch, function))
    patches.apply(Module, "compile", _compiling(switch, Module.compile))
    return switch


def _rewrite(patches: Patches, switch: Switch, function: Any) -> bool:
    if type(function) is not FunctionType:  # somebody patched before us
        return False
    former = function.__code__
    closure = function.__closure__
    plain = FunctionType(former, function.__globals__, function.__name__, None, closure)
    code = with_scope(function, current=current, switch=switch, plain=plain)
    if code is None:
        return False

    def restore() -> list[str]:
        if function.__code__ is not code:
            return ["Module._call_impl"]
        function.__code__ = former
        hide(function)
        return []

    skip_code(code)
    show(function, plain)
    function.__code__ = code
    patches.on_restore(restore)
    return True


def _around(switch: Switch, original: Callable[..., Any]) -> Callable[..., Any]:
    def _call_impl(self: Module, *args: Any, **kwargs: Any) -> Any:
        if _scope().covers:
            return original(self, *args, **kwargs)
        return outermost(switch, MethodType(original, self), self, args, kwargs)

    return shown_as(original, _call_impl)


def _compiling(switch: Switch, original: Callable[..., Any]) -> Callable[..., Any]:
    """Have the compiled form of torch's own layers recorded, which holds `_call_impl` in itself."""

    @functools.wraps(original)
    def compile(module: Module, *args: Any, **kwargs: Any) -> Any:  # noqa: A001 - torch's name
        result = original(module, *args, **kwargs)
        optimized = sys.modules["torch._dynamo"].OptimizedModule
        holds_call = getattr(optimized, "_should_wrap_module_call_impl", None)
        if holds_call is not None and holds_call(module._call_impl) and switch.tracker is not None:
            own = vars(module)
            own[_COMPILED] = in_place(switch, own[_COMPILED], module)
        return result

    return compile


def in_place(switch: Switch, made: Callable[..., Any], module: Module) -> Callable[..., Any]:
    """A compiled form of a module's call, its outermost calls recorded.

    Args:
        switch: says whether they are, and by whom.
        made: the compiled form.
        module: whose call it is.
    """

    @skip_frame
    @functools.wraps(made)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _scope().covers:
            return made(*args, **kwargs)
        return outermost(switch, made, module, args, kwargs)

    return call


@skip_frame
def outermost(
    switch: Switch,
    call: Callable[..., Any],
    module: Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call a module that nothing open covers, as an inference or a step of one.

    Args:
        switch: says whether it is recorded, and by whom.
        call: what is called with the arguments.
        module: whose call it is.
        args: of the call.
        kwargs: likewise.
    """
    before = _scope()
    scope = None
    done = False
    # An exception of a signal handler may come at any instruction, also in the first handler.
    try:
        try:
            scope = switch.open(module, args, kwargs)
            if scope is None:
                return call(*args, **kwargs)
            return switch.returned(scope, call(*args, **kwargs))
        except BaseException as error:
            switch.left_by(error, scope, before)
            done = True
            raise
    except BaseException as error:
        if not done:
            switch.left_by(error, scope, before)
        raise
