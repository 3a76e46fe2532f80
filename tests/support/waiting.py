"""Waiting for what another thread or process does, never without an end."""

from __future__ import annotations

import time
from collections.abc import Callable

_POLL_S = 0.001


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: it did not hold in time.
    """
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"nothing came in {timeout_s} s")
        time.sleep(_POLL_S)
