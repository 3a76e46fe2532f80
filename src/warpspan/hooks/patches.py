"""A reversible ledger of patches.

It knows when somebody else patched over ours, and never removes their patch: ours then stays
underneath and must do nothing by itself once it is switched off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Patches:
    """Attributes that were replaced, to be put back in reverse order."""

    def __init__(self) -> None:
        self._applied: list[tuple[Any, str, Any, Any, bool]] = []
        self._restorers: list[Callable[[], list[str]]] = []

    def on_restore(self, restore: Callable[[], list[str]]) -> None:
        """Also call this when everything is put back; it returns names as `restore` does."""
        self._restorers.append(restore)

    def apply(self, owner: Any, name: str, replacement: Any) -> None:
        """Replace an attribute of a module or class.

        Raises:
            AttributeError: the owner has no such attribute.
        """
        own = name in vars(owner)
        original = vars(owner)[name] if own else getattr(owner, name)
        setattr(owner, name, replacement)
        self._applied.append((owner, name, original, replacement, own))

    def restore(self) -> list[str]:
        """Put the originals back; returns the names that somebody else patched over."""
        kept = []
        while self._restorers:
            kept += self._restorers.pop()()
        while self._applied:
            owner, name, original, replacement, own = self._applied.pop()
            if vars(owner).get(name) is not replacement:
                kept.append(f"{owner.__name__}.{name}")
            elif own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)
        return kept
