"""Graph captures: the driver is asked nothing that could break one.

While a capture is open in CUDA's global mode, a query of an event or a stream by any thread of the
process makes the capture fail; `elapsed_time` queries both its events. Two things keep ours away:

- The gate: no question is asked between the begin and the end of a capture that Python code
  makes. On ROCm it is the only way, since a query breaks captures of every mode there.
- The thread that asks is in the relaxed capture mode meanwhile, which keeps its questions from
  mattering to captures of other threads. That covers captures begun in C++, which nobody sees.

Creating, recording and destroying events is no question: torch does all three inside captures of
the global mode (`Stream.wait_stream`).
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from warpspan import forks

T = TypeVar("T")

_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED

# A capture takes seconds at most. One that is open longer was begun and never ended, and must not
# hold up telemetry for good. Not obeyed any more only where the relaxed mode protects it as well.
_ABANDONED_S = 60.0


class CaptureGate:
    """Knows which captures are open, and answers questions to the driver when none is."""

    def __init__(self) -> None:
        # Re-entrant: a signal handler or a finaliser may begin a capture inside a question.
        self._lock = threading.RLock()
        self._open: dict[int, tuple[weakref.ref[Any], float]] = {}
        self._asking = False

    def opened(self, graph: Any) -> None:
        """A capture begins; waits for the one question that may be under way.

        It counts as ended, too, when the graph is gone.
        """
        key = id(graph)
        reference = weakref.ref(graph, functools.partial(self._open.pop, key))
        with self._lock:
            self._open[key] = reference, time.monotonic()

    def closed(self, graph: Any) -> None:
        """A capture ended, or never began. May be said more than once."""
        self._open.pop(id(graph), None)

    def ask(self, question: Callable[[], T], *, wait: bool = True) -> T | None:
        """The answer to a question to the driver; None where it can't be asked now.

        Args:
            question: asks the driver.
            wait: wait while another thread asks, which a caller's thread must not.
        """
        if self._asking and not wait:
            return None
        # By `with`, and the mode in an object of C's: after an exception of a signal handler the
        # lock is not left taken, and the thread not in another mode.
        with self._lock:
            exchange = _driver()
            mode = ctypes.c_int(_RELAXED)  # the driver puts there what was set before
            try:
                self._asking = True
                # Refused only before the driver is initialised, and then there is no capture.
                relaxed = exchange is not None and exchange(ctypes.byref(mode)) == 0
                if self._open and not (relaxed and self._abandoned()):
                    return None
                return question()
            finally:
                self._asking = False
                if exchange is not None and mode.value != _RELAXED:
                    exchange(ctypes.byref(mode))

    def forget(self) -> None:
        """Begin anew, as in a forked child."""
        self._lock = threading.RLock()
        self._asking = False
        self._open.clear()

    def _abandoned(self) -> bool:
        began = time.monotonic() - _ABANDONED_S
        return all(since < began for _, since in list(self._open.values()))


def relax() -> None:
    """Let the calling thread ask the driver while another one captures a graph."""
    exchange = _driver()
    if exchange is not None:
        exchange(ctypes.byref(ctypes.c_int(_RELAXED)))


@functools.cache
def _driver() -> Callable[..., int] | None:
    """The driver's cuThreadExchangeStreamCaptureMode, which needs no context, unlike CUDA's own."""
    if torch.version.cuda is None:
        return None
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        exchange: Callable[..., int] = library.cuThreadExchangeStreamCaptureMode
    except (OSError, AttributeError):
        return None
    return exchange


gate = CaptureGate()
forks.join(in_child=gate.forget)
