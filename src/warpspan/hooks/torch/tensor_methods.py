"""Methods of `torch.Tensor`, replaced so that only a tensor that matters meets the replacement.

What stands in the class is a descriptor. Asked by the class it gives the original: torch's own
tables of functions, `__torch_function__` overrides, pickles and signatures see nothing of ours.
Asked by a tensor in host memory it gives the original bound to it, so that no frame of ours is
called. Only a tensor on CUDA gets the replacement.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import MethodType
from typing import Any

import torch

from warpspan import guard
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.dynamo import leave_out, skip_frame
from warpspan.hooks.torch.module_call import Switch
from warpspan.probes.transfers import Turn

has_torch_function = torch._C._has_torch_function_unary
_disabled = torch._C._disabled_torch_function_impl
_dispatch_modes = torch._C._len_torch_dispatch_stack
_transform = torch._C._functorch.peek_interpreter_stack
_NoTorchFunction = torch._C.DisableTorchFunction

#: The turn of a call that is counted as a whole, inside it. Held weakly, so that none is left behind.
inside: ContextVar[Callable[[], Turn | None]] = ContextVar("warpspan_inside", default=lambda: None)


def replace(patches: Patches, name: str, replacement: Callable[..., Any], *, on_host: bool) -> None:
    """Replace a method of tensors.

    Args:
        patches: where it is noted.
        name: of the method.
        replacement: made from `original(name)`.
        on_host: tensors in host memory matter, too.
    """
    before = original(name)
    replacement = leave_out(replacement)

    # The tests of a tensor stand here rather than in a function: each costs what one call does.
    if on_host:

        def get(_: Any, tensor: Any, __: Any = None) -> Any:
            if tensor is None:
                return before
            if has_torch_function(tensor) and _overrides(tensor):
                return _bound(before, tensor)
            return MethodType(replacement, tensor)

    else:

        def get(_: Any, tensor: Any, __: Any = None) -> Any:
            if tensor is None:
                return before
            if has_torch_function(tensor):
                if _overrides(tensor) or not _is_cuda(tensor):
                    return _bound(before, tensor)
            elif not tensor.is_cuda:
                return MethodType(before, tensor)
            return MethodType(replacement, tensor)

    # Dynamo does not ask classes but looks into them, and knows how to ask a static method.
    surface = type("Surface", (staticmethod,), {"__get__": skip_frame(get)})
    patches.apply(torch.Tensor, name, surface(before))


def original(name: str) -> Any:
    """The method of tensors as it is now."""
    return getattr(torch.Tensor, name)


def in_order(switch: Switch, tensor: torch.Tensor | None) -> bool:
    """Whether what runs now is the program itself, whose waits and copies are real."""
    if switch.tracker is None or inside.get()() or _dispatch_modes():  # fakes, tracers, counters
        return False
    if _transform() is not None:  # vmap's and grad's tensors are wrappers around the real ones
        return False
    fake = sys.modules.get("torch._subclasses.fake_tensor")
    return fake is None or not isinstance(tensor, fake.FakeTensor)


def started(switch: Switch, tensor: torch.Tensor | None = None) -> Turn | None:
    """Of the inference that a wait which begins now belongs to."""
    try:
        if not in_order(switch, tensor):
            return None
        return switch.tracker.attribution.waited_for()  # type: ignore[union-attr]
    except Exception as error:
        guard.caught("synchronization", error)
        return None


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have it look at tensors unseen by modes of the user's."""

    @functools.wraps(function)
    def look(*args: Any) -> Any:
        with _NoTorchFunction():
            return function(*args)

    return look


@skip_frame
def _bound(method: Any, tensor: torch.Tensor) -> Any:
    return method if isinstance(tensor, type) else MethodType(method, tensor)


@skip_frame
def _overrides(tensor: torch.Tensor) -> bool:
    """Whether its class handles functions of torch itself, or else a mode of the user's does."""
    if tensor is torch.Tensor:  # type: ignore[comparison-overlap]  # as Dynamo asks
        return True
    kind = type(tensor)
    return kind is not torch.Tensor and kind.__torch_function__ is not _disabled


@skip_frame
def _is_cuda(tensor: torch.Tensor) -> bool:
    with _NoTorchFunction():
        return tensor.is_cuda
