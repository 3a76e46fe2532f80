"""Processes of a benchmark and Ctrl-C, which a terminal sends to them as well as to us."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def start_deaf(start: Callable[[], T]) -> T:
    """Call what starts a process, which will then ignore Ctrl-C: its parent ends it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited
    try:
        return start()
    finally:
        signal.signal(signal.SIGINT, before)


def kill() -> None:
    """End all children of `multiprocessing` at once."""
    for child in multiprocessing.active_children():
        child.kill()
