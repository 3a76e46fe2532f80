"""A signal that asks for a capture."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any

_logger = logging.getLogger("warpspan")


class OnSignal:
    """Does something when a signal comes, and then what the program does with it.

    Args:
        number: of the signal.
        action: waits for nothing, since it runs between two instructions of the main thread.
    """

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self._number, self._action = number, action
        self._former: Any = None
        self._installed = False
        try:
            self._former = signal.signal(number, self._on_signal)
            self._installed = True
        except ValueError:  # Python allows it to the main thread alone
            _logger.warning(
                "warpspan: %s starts no captures: instrument on the main thread",
                signal.Signals(number).name,
            )

    def remove(self) -> None:
        """Put the former handler back, unless another one has been set since."""
        if self._installed and signal.getsignal(self._number) == self._on_signal:
            signal.signal(self._number, self._former)
        self._installed = False

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._installed:
            self._action()
        if callable(self._former):
            self._former(number, frame)
