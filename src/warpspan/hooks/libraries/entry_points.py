"""Methods and functions that make one inference of each call: named in a table, or by the user.

What is named is looked for once the program has imported its module, and never imported by us.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import logging
import re
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol

import torch

from warpspan.hooks.contract import Hook, HookApi, OpenCall

_logger = logging.getLogger("warpspan")
_FORM = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
# Where predictors and algorithms keep the model that they run.
_KEPT_AS = ("model", "policy", "net", "network", "module", "detector")


class EntryCall(OpenCall):
    """A call of an entry point: module calls inside are its steps.

    Args:
        owner: the object whose method is called, or None for a function.
        args: of the call.
        kwargs: likewise.
        operation: what the call does.
    """

    def __init__(
        self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any], operation: str
    ) -> None:
        self.operation = operation
        self.model = _model(owner) if owner is not None else _given(args, kwargs)


def _model(owner: Any) -> torch.nn.Module | None:
    """The model that an object is or keeps; None lets the first step name it."""
    if isinstance(owner, torch.nn.Module):
        return owner
    kept = vars(owner) if hasattr(owner, "__dict__") else {}
    for name in _KEPT_AS:
        if isinstance(kept.get(name), torch.nn.Module):
            return kept[name]  # type: ignore[no-any-return]
    return next((value for value in kept.values() if isinstance(value, torch.nn.Module)), None)


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.nn.Module | None:
    given = (value for value in (*args, *kwargs.values()) if isinstance(value, torch.nn.Module))
    return next(given, None)


class Row(Protocol):
    """One row of the table of known entry points."""

    @property
    def path(self) -> str:
        """`Class.method` or `function` in the module."""

    @property
    def operation(self) -> str | None:
        """The name of what it does; by default the method's own."""

    @property
    def opens(self) -> Callable[..., OpenCall | None]:
        """Says what a call is."""


def hook_of_rows(rows: Sequence[Row]) -> Hook:
    """A hook for the entry points of one module; those that its version lacks are left out."""

    def hook(module: ModuleType, api: HookApi) -> None:
        for row in rows:
            *owners, name = row.path.split(".")
            open_ = functools.partial(_open, row.opens, row.operation or _operation(name))
            if owners:
                api.wrap_call(getattr(module, owners[0], None), name, open_)
            else:
                api.wrap_function(module, name, open_)

    return hook


def _operation(name: str) -> str:
    return "call" if name == "__call__" else name


def _open(
    opens: Callable[..., OpenCall | None],
    operation: str,
    owner: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> OpenCall | None:
    return opens(owner, args, kwargs, operation)


def parse(written: str) -> tuple[str, str] | None:
    """Module and path of what a user wrote, or None with a warning that says how to write it."""
    match = _FORM.fullmatch(written)
    if match is None:
        _logger.warning(
            "The entry point %r is ignored: write package.module:Class.method or "
            "package.module:function.",
            written,
        )
        return None
    module, path = match.groups()
    package = module.partition(".")[0]
    if module not in sys.modules and package not in sys.modules and not _is_there(package):
        _logger.warning(
            "The entry point %r is ignored: no module named %r is installed.", written, package
        )
        return None
    return module, path


def check_of_user(written: str, module: str) -> Hook:
    """A hook for the package of a module that a user named: it warns where it has no such module."""

    def hook(package: ModuleType, api: HookApi) -> None:
        del api
        name = module.rpartition(".")[2]
        if not hasattr(package, name) and not _is_there(module):
            _logger.warning(
                "The entry point %r is ignored: no module named %r is installed.", written, module
            )

    return hook


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return True  # somebody's finder that can't say it


def hook_of_user(written: str, path: str) -> Hook:
    """A hook for an entry point that a user named, which says it if there is no such thing.

    Args:
        written: the whole of what the user wrote.
        path: `Class.method` or `function`.
    """
    *owners, name = path.split(".")

    def hook(module: ModuleType, api: HookApi) -> None:
        owner: Any = module
        for part in owners:
            if not hasattr(owner, part):
                _missing(written, owner, part)
                return
            owner = getattr(owner, part)
        if not callable(getattr(owner, name, None)):
            _missing(written, owner, name)
            return
        open_ = functools.partial(_open, EntryCall, _operation(name))
        if not isinstance(owner, type):
            api.wrap_function(owner, name, open_)
            return
        if getattr(owner, name) is getattr(torch.nn.Module, name, None):
            _logger.warning(
                "The entry point %r is ignored: calls of a module are recorded as they are.",
                written,
            )
            return
        definer = next(base for base in owner.__mro__ if name in vars(base))
        if isinstance(vars(definer)[name], (classmethod, staticmethod)):
            _logger.warning(
                "The entry point %r is ignored: it is called without an object. Put "
                "`warpspan.inference()` around what it does.",
                written,
            )
            return
        if definer is owner:
            api.wrap_call(owner, name, open_)
        else:  # inherited: only for this class
            api.wrap_call(definer, name, functools.partial(_open_for, owner, open_))

    return hook


def _open_for(
    owner: type, open_: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> OpenCall | None:
    return open_(instance, args, kwargs) if isinstance(instance, owner) else None


def _missing(written: str, owner: Any, name: str) -> None:
    known = [known for known in dir(owner) if callable(getattr(owner, known, None))]
    close = difflib.get_close_matches(name, known, n=1)
    _logger.warning(
        "The entry point %r is ignored: %s has no %r.%s",
        written,
        owner.__name__,
        name,
        f" Did you mean {close[0]!r}?" if close else "",
    )
