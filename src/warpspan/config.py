"""Settings: keyword arguments or declarative configuration before environment before default.

The only reader of `os.environ` in the instrumentation.
"""

from __future__ import annotations

import difflib
import logging
import operator
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from warpspan import environment_variables as variables

_logger = logging.getLogger("warpspan")
_PREFIX = "OTEL_PYTHON_WARPSPAN_"


@dataclass(frozen=True)
class Settings:
    """What a user can choose. Each field is also an argument of `instrument()`.

    Args:
        training: record module calls in training mode with gradients on, too.
        parameterless: record outermost modules without parameters and buffers, too.
        excluded_models: patterns (as in `fnmatch`) of model class names not to record.
        memory: read the caching allocator's counters around each inference.
        transfers: record waits for a CUDA device, and copies to and from it.
        queue_size: inferences that may wait for their device time and export.
        flush_timeout_s: seconds that the end of the process may wait for them.
        gc_freeze: take what lives once a model is warm out of garbage collection.
        sample_period_s: seconds between two samples of a GPU; 0 takes none.
        hardware_metrics: `on`, `off`, or `auto`: on unless DCGM exports them.
        steps: how the steps of an inference are told: `summary`, `events` or `spans`.
    """

    training: bool = False
    parameterless: bool = False
    excluded_models: tuple[str, ...] = ()
    memory: bool = True
    transfers: bool = True
    queue_size: int = 4096
    flush_timeout_s: float = 5.0
    gc_freeze: bool = False
    sample_period_s: float = 0.2
    hardware_metrics: str = "auto"
    steps: str = "summary"


@dataclass
class Configuration:
    """The same fields for OpenTelemetry's declarative configuration; None is the default."""

    training: bool | None = None
    parameterless: bool | None = None
    excluded_models: list[str] | None = None
    memory: bool | None = None
    transfers: bool | None = None
    queue_size: int | None = None
    flush_timeout_s: float | None = None
    gc_freeze: bool | None = None
    sample_period_s: float | None = None
    hardware_metrics: str | None = None
    steps: str | None = None


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    return {"true": True, "1": True, "false": False, "0": False}[str(value).strip().lower()]


def _patterns(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else list(value)
    if not all(isinstance(name, str) for name in names):
        raise ValueError(value)
    return tuple(name.strip() for name in names if name.strip())


def _size(value: Any) -> int:
    size = int(value) if isinstance(value, str) else operator.index(value)
    if not 16 <= size <= 1_000_000:
        raise ValueError(value)
    return size


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not 0 <= seconds <= 3600:
        raise ValueError(value)
    return seconds


def _period(value: Any) -> float:
    seconds = float(value)
    if seconds != 0 and not 0.1 <= seconds <= 10:
        raise ValueError(value)
    return seconds


def _mode(value: Any) -> str:
    if isinstance(value, bool):  # as YAML reads on and off
        return "on" if value else "off"
    mode = str(value).strip().lower()
    if mode not in ("auto", "on", "off"):
        raise ValueError(value)
    return mode


def _step_form(value: Any) -> str:
    form = str(value).strip().lower()
    if form not in ("summary", "events", "spans"):
        raise ValueError(value)
    return form


def environment() -> Mapping[str, str]:
    """The environment of this process, for those that are told to look into it."""
    return os.environ


def has_dcgm_exporter(environ: Mapping[str, str]) -> bool:
    """Whether a variable names a dcgm-exporter, as Kubernetes sets for a namespace's services."""
    return any("DCGM_EXPORTER" in name for name in environ)


_FIELDS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "training": (variables.OTEL_PYTHON_WARPSPAN_TRAINING, _flag, "true or false"),
    "parameterless": (variables.OTEL_PYTHON_WARPSPAN_PARAMETERLESS, _flag, "true or false"),
    "excluded_models": (
        variables.OTEL_PYTHON_WARPSPAN_EXCLUDED_MODELS,
        _patterns,
        "class names or patterns, separated by commas",
    ),
    "memory": (variables.OTEL_PYTHON_WARPSPAN_MEMORY, _flag, "true or false"),
    "transfers": (variables.OTEL_PYTHON_WARPSPAN_TRANSFERS, _flag, "true or false"),
    "queue_size": (
        variables.OTEL_PYTHON_WARPSPAN_QUEUE_SIZE,
        _size,
        "a whole number from 16 to 1000000",
    ),
    "flush_timeout_s": (
        variables.OTEL_PYTHON_WARPSPAN_FLUSH_TIMEOUT,
        _seconds,
        "seconds from 0 to 3600",
    ),
    "gc_freeze": (variables.OTEL_PYTHON_WARPSPAN_GC_FREEZE, _flag, "true or false"),
    "sample_period_s": (
        variables.OTEL_PYTHON_WARPSPAN_SAMPLE_PERIOD,
        _period,
        "seconds from 0.1 to 10, or 0 for none",
    ),
    "hardware_metrics": (
        variables.OTEL_PYTHON_WARPSPAN_HARDWARE_METRICS,
        _mode,
        "auto, on or off",
    ),
    "steps": (variables.OTEL_PYTHON_WARPSPAN_STEPS, _step_form, "summary, events or spans"),
}


def load(
    options: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Settings from options, then the environment, then the defaults.

    A wrong value is named in one warning and the default is used.
    """
    options = options or {}
    environ = os.environ if environ is None else environ
    chosen: dict[str, Any] = {}
    for field in fields(Settings):
        variable, parse, allowed = _FIELDS[field.name]
        source, value = field.name, options.get(field.name)
        if value is None:
            source, value = variable, environ.get(variable)
        if value is None or value == "":
            continue
        try:
            chosen[field.name] = parse(value)
        except (KeyError, TypeError, ValueError):
            _logger.warning(
                "%s=%r is not valid: give %s. Using the default, %r.",
                source,
                value,
                allowed,
                field.default,
            )
    _warn_unknown("option", set(options) - set(_FIELDS), sorted(_FIELDS))
    ours = {name for name in environ if name.startswith(_PREFIX)}
    known = sorted(name for name in vars(variables) if name.startswith(_PREFIX))
    _warn_unknown("variable", ours - set(known), known)
    return Settings(**chosen)


def _warn_unknown(kind: str, unknown: set[str], known: list[str]) -> None:
    for name in sorted(unknown):
        # Of names that all begin alike, what follows is what can be similar.
        endings = {other.removeprefix(_PREFIX): other for other in known}
        close = difflib.get_close_matches(name.removeprefix(_PREFIX), endings, n=1)
        advice = f"Did you mean {endings[close[0]]}?" if close else f"Known: {', '.join(known)}."
        _logger.warning("Unknown %s %s is ignored. %s", kind, name, advice)
