"""Telemetry never breaks its host: our own errors are counted, and each cause is logged once."""

from __future__ import annotations

import logging
from collections import Counter

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


def caught(origin: str, error: BaseException) -> None:
    """Count an error of ours and log it, once for each origin and class.

    Never raises, so it can stand in any `except` of a hot path. The error of a device that a
    program lost is the program's: it meets it itself, and what was to be read there is absent.
    """
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
    except Exception:
        pass  # a logging handler of the host that raises must not reach the inference


def forget() -> None:
    """Forget what was counted and logged."""
    faults.clear()
    _seen.clear()
