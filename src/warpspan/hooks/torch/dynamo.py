"""Frames of ours that Dynamo must not compile.

After a graph break, Dynamo tries to compile every Python frame that runs until the compiled
function goes on. torch's own files are left out by their place. Ours would cost graphs, and on
torch 2.4 compiling them raises in the program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, TypeVar

import torch
from torch.torch_version import TorchVersion

_dynamo: Any = torch._C._dynamo.eval_frame
_is_old = hasattr(_dynamo, "skip_code")  # torch 2.4 to 2.6

_INLINE = "_torchdynamo_inline"
# Newer ones guard the attribute where it is true, and take it unseen where it is false.
_is_guarded = TorchVersion(torch.__version__) >= "2.15"

F = TypeVar("F", bound=Callable[..., Any])


def skip_code(code: CodeType) -> None:
    """Have frames of this code run as they are; frames inside them are looked at."""
    if _is_old:
        _dynamo.skip_code(code)
    else:
        action = _dynamo._FrameAction
        strategy = _dynamo._FrameExecStrategy(action.SKIP, action.DEFAULT)
        _dynamo.set_code_exec_strategy(code, strategy)


def skip_frame(function: F) -> F:
    """Have this frame run as it is; frames inside it are looked at."""
    skip_code(function.__code__)
    return function


def show(function: Callable[..., Any], original: FunctionType) -> None:
    """Have Dynamo trace the original where it meets the function."""
    setattr(function, _INLINE, _Unseen(original) if _is_guarded else original)


def hide(function: Callable[..., Any]) -> None:
    """Have Dynamo trace the function itself again."""
    delattr(function, _INLINE)


class _Unseen:
    """A function that is false, and in everything else what it is made of."""

    __slots__ = ("__weakref__", "_function")

    def __init__(self, function: FunctionType) -> None:
        self._function = function

    def __bool__(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    @property  # type: ignore[misc]
    def __class__(self) -> type[FunctionType]:  # type: ignore[override]
        return FunctionType


def shown_as(original: Any, wrapper: F) -> F:
    """Have Dynamo see the original wherever it meets the wrapper, called or traced."""
    functools.update_wrapper(wrapper, original)
    skip_frame(wrapper)
    show(wrapper, original)
    return wrapper


def leave_out(function: F) -> F:
    """Have this frame and all inside it run as they are; traced, it is a graph break.

    What it gives stands in the function's place.
    """
    if _is_old:
        outside: Any = _outside(function)
    else:
        outside = function
        skip = _dynamo._FrameAction.SKIP
        _dynamo.set_code_exec_strategy(function.__code__, _dynamo._FrameExecStrategy(skip, skip))
    outside._torchdynamo_disable = True
    return outside  # type: ignore[no-any-return]


def _outside(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def outside(*args: Any, **kwargs: Any) -> Any:
        before = _dynamo.set_eval_frame(None)
        try:
            return function(*args, **kwargs)
        finally:
            _dynamo.set_eval_frame(before)

    return skip_frame(outside)
