"""Telemetry never breaks its host: our own errors are counted, and each cause is logged once.

What a signal handler raises while its thread runs our code is not ours: it is let through.
"""

from __future__ import annotations

import dis
import inspect
import logging
import threading
from collections import Counter
from types import FrameType, FunctionType, TracebackType

_logger = logging.getLogger("warpspan")
_seen: set[tuple[str, type[BaseException]]] = set()

#: Causes that are logged. A program may make classes of errors at run time.
CAUSE_LIMIT = 200

#: Caught errors of our own by the part they came from. Exported as `warpspan.faults`.
faults: Counter[str] = Counter()


# After one of these, every call of the process that touches the device gives the same error.
_LOST_DEVICE = (
    "an illegal memory access was encountered",
    "device-side assert triggered",
    "unspecified launch failure",
    "misaligned address",
    "illegal instruction was encountered",
    "uncorrectable ECC error encountered",
)


def _is_lost_device(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _LOST_DEVICE)


# Classes that C code raises without arguments.
_BARE = (MemoryError, StopIteration, StopAsyncIteration)
_RAISING = frozenset(
    dis.opmap[name]
    for name in ("RAISE_VARARGS", "RERAISE", "CLEANUP_THROW", "END_ASYNC_FOR")
    if name in dis.opmap
)
_thread = threading.local()


def on_own_thread() -> None:
    """Say that this thread is ours: nobody throws exceptions into it."""
    _thread.is_ours = True


def let_through(error: BaseException) -> None:
    """Raise an exception again that came from outside into code of ours.

    To be called first wherever code on a caller's thread catches a class that a signal handler may
    raise, too. An exception comes from outside if

    - a function beneath raised it that was given the very frame that it interrupted, as signal
      handlers, trace functions and debuggers are; or
    - it appeared at an instruction that raises nothing by itself, without arguments, as the class
      is that `PyThreadState_SetAsyncExc` throws into a thread.

    Args:
        error: what was caught.

    Raises:
        BaseException: the same one, where it is not ours.
    """
    trace = error.__traceback__
    if trace is None:
        return
    while trace.tb_next is not None:
        if _was_given(trace.tb_next.tb_frame, trace.tb_frame):
            raise error
        trace = trace.tb_next
    if _was_thrown_in(error, trace):
        raise error


def _was_given(frame: FrameType, interrupted: FrameType) -> bool:
    """Whether the arguments of a frame have the one below it."""
    code = frame.f_code
    several = bool(code.co_flags & inspect.CO_VARARGS)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + several]
    values = frame.f_locals
    for name in names:
        value = values.get(name)
        if value is interrupted:
            return True
        if type(value) is tuple and any(item is interrupted for item in value):
            return True
    return False


def _was_thrown_in(error: BaseException, innermost: TracebackType) -> bool:
    kind = type(error)
    if kind in _BARE or getattr(_thread, "is_ours", False):
        return False
    if error.args and type(kind.__init__) is not FunctionType:
        return False  # the class alone is thrown in, and made an exception without arguments
    return innermost.tb_frame.f_code.co_code[innermost.tb_lasti] not in _RAISING


def caught(origin: str, error: BaseException) -> None:
    """Count an error of ours and log it, once for each origin and class.

    The error of a device that a program lost is the program's: it meets it itself, and what was
    to be read there is absent.

    Args:
        origin: which part failed.
        error: what it raised.

    Raises:
        BaseException: the same one, where it came from outside (`let_through`); nothing else, so
            that this can stand in any `except` of a hot path.
    """
    let_through(error)
    try:
        if _is_lost_device(error):
            return
        faults[origin] += 1
        cause = (origin, type(error))
        if cause not in _seen and len(_seen) < CAUSE_LIMIT:
            _seen.add(cause)
            _logger.warning(
                "warpspan: %s failed, the inference continues without it (logged once, counted in "
                "warpspan.faults): %s: %s",
                origin,
                type(error).__name__,
                error,
                exc_info=error,
            )
    except Exception as raised:
        let_through(raised)  # a logging handler of the host must not reach the inference


def forget() -> None:
    """Forget what was counted and logged."""
    faults.clear()
    _seen.clear()
