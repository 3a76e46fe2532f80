"""The call of a module: the outermost one in a context is an inference.

`Module.__call__` is replaced by torch's own two lines with one test before them, which costs less
than a wrapper around it (about 40 ns a call, docs/measurements.md). The test begins with the question
whether Dynamo is tracing: Dynamo answers it at trace time, so a graph holds nothing of ours, has no
guard of ours and does not break.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch.nn import Module

from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.dynamo import skip_frame
from warpspan.runtime.scopes import current, left_by
from warpspan.runtime.tracker import Tracker

# Looked up by every module call: a global of this module is found sooner than a closure's cell.
_is_dynamo_compiling = torch.compiler.is_dynamo_compiling
_scope = current.get


class Switch:
    """Says whether calls are recorded: off, the patch is as if it were not there."""

    __slots__ = ("tracker",)

    def __init__(self, tracker: Tracker) -> None:
        self.tracker: Tracker | None = tracker


def patch(patches: Patches, tracker: Tracker) -> Switch:
    """Patch `Module.__call__`; the result switches it off where it can't be removed."""
    switch = Switch(tracker)
    original = Module.__call__
    if original is Module._wrapped_call_impl:
        replacement = _inlined(switch)
    else:  # somebody patched before us: call theirs
        replacement = _around(switch, original)
    # torch's own `_wrapped_call_impl` is treated so by its file. Ours would otherwise be the frame
    # that Dynamo compiles, for every model the same one: nine compiled models would exceed its
    # limit of eight graphs for one code object and fall back to eager.
    skip_frame(replacement)
    patches.apply(Module, "__call__", replacement)
    return switch


def _inlined(switch: Switch) -> Callable[..., Any]:
    def _wrapped_call_impl(self: Module, *args: Any, **kwargs: Any) -> Any:
        if _is_dynamo_compiling() or _scope().covers:
            if self._compiled_call_impl is None:
                if kwargs:
                    return self._call_impl(*args, **kwargs)
                return self._call_impl(*args)
            return self._compiled_call_impl(*args, **kwargs)
        return outermost(switch, self._compiled_call_impl or self._call_impl, self, args, kwargs)

    return _wrapped_call_impl


def _around(switch: Switch, original: Callable[..., Any]) -> Callable[..., Any]:
    def _wrapped_call_impl(self: Module, *args: Any, **kwargs: Any) -> Any:
        if _is_dynamo_compiling() or _scope().covers:
            return original(self, *args, **kwargs)
        return outermost(switch, MethodType(original, self), self, args, kwargs)

    return _wrapped_call_impl


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
    tracker = switch.tracker
    before = _scope()
    scope = None
    done = False
    # An exception of a signal handler may come at any instruction, also in the first handler.
    try:
        try:
            if tracker is not None:
                scope = tracker.open_call(module, args, kwargs)
            if scope is None:
                return call(*args, **kwargs)
            result = call(*args, **kwargs)
            if scope.cache_call is not None:
                scope.cache_call.returned(result)
            scope.close()
        except BaseException as error:
            left_by(error, scope, before)
            done = True
            raise
    except BaseException as error:
        if not done:
            left_by(error, scope, before)
        raise
    return result
