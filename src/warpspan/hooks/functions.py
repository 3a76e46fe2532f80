"""How functions of a module are wrapped: as methods are, of no object."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from warpspan.hooks import wrapping
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.module_call import Switch


def wrap_function(
    patches: Patches, switch: Switch, module: ModuleType, name: str, wrap: wrapping.Wrap
) -> None:
    """Replace a function of a module by one that is wrapped as a method would be.

    Args:
        patches: where it is noted.
        switch: who wraps it; what has been wrapped for that is left alone.
        module: the module, which may lack the function.
        name: of the function.
        wrap: wraps methods. The object that they are called with is None.
    """
    original = getattr(module, name, None)
    if type(original) is not FunctionType or vars(original).get(wrapping.MARK) is switch:
        return
    wrapper = _function(original, wrap)
    setattr(wrapper, wrapping.MARK, switch)
    patches.apply(module, name, wrapper)


def _function(original: FunctionType, wrap: wrapping.Wrap) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(_: None, *args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    wrapped = wrap(method)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return wrapped(None, *args, **kwargs)

    return wrapper
