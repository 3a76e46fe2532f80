"""What an exporter does in a forked child."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def call_after_fork(method: Callable[[], None]) -> None:
    """Call a bound method in forked children for as long as its object lives."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if found := reference():
            found()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)
