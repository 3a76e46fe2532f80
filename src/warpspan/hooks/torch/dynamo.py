"""Frames of ours that Dynamo must not compile.

After a graph break, Dynamo tries to compile every Python frame that runs until the compiled
function goes on. torch's own files are left out by their place. Ours would cost graphs, and on
torch 2.4 compiling them raises in the program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

_dynamo: Any = torch._C._dynamo.eval_frame
_is_old = hasattr(_dynamo, "skip_code")  # torch 2.4 to 2.6

F = TypeVar("F", bound=Callable[..., Any])


def skip_frame(function: F) -> F:
    """Have this frame run as it is; frames inside it are looked at."""
    if _is_old:
        _dynamo.skip_code(function.__code__)
    else:
        action = _dynamo._FrameAction
        strategy = _dynamo._FrameExecStrategy(action.SKIP, action.DEFAULT)
        _dynamo.set_code_exec_strategy(function.__code__, strategy)
    return function


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
