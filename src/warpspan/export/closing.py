"""The end of an export: how long it may take, and what is said of what did not go out."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping

from warpspan.environment_variables import OTEL_PYTHON_WARPSPAN_FLUSH_TIMEOUT

_logger = logging.getLogger("warpspan")

#: As the instrumentation's setting of that name has it, which says what is wrong with a value.
_DEFAULT_S, _MOST_S = 5.0, 3600.0
_ITEMS = {"traces": "span", "metrics": "metric point", "logs": "log record"}


def flush_timeout_s(environ: Mapping[str, str]) -> float:
    """The longest wait at the end of the process, in seconds."""
    try:
        chosen = float(environ.get(OTEL_PYTHON_WARPSPAN_FLUSH_TIMEOUT, ""))
    except ValueError:
        return _DEFAULT_S
    return chosen if math.isfinite(chosen) and 0 <= chosen <= _MOST_S else _DEFAULT_S


def say(dropped: Counter[tuple[str, str]], where: str, limit_s: float) -> None:
    """Say what was lost, by signal and reason, in one line, where anything was."""
    lost: Counter[str] = Counter()
    for (signal, _), items in dropped.items():
        lost[signal] += items
    if lost:
        _logger.warning("%s", sentence(lost, where, limit_s))


def sentence(lost: Counter[str], where: str, limit_s: float) -> str:
    """What to say of items that did not go out, counted by signal."""
    counted = [
        f"{lost[signal]} {item}{'' if lost[signal] == 1 else 's'}"
        for signal, item in _ITEMS.items()
        if lost[signal]
    ]
    *others, last = counted
    words = f"{', '.join(others)} and {last}" if others else last
    were = "was" if sum(lost.values()) == 1 else "were"
    return (
        f"warpspan: {words} {were} lost at the end of the program: {where} did not take them "
        f"within {limit_s:g} s ({OTEL_PYTHON_WARPSPAN_FLUSH_TIMEOUT})"
    )
