"""Settings: keyword arguments or declarative configuration before environment before default.

`Settings` is the one table of options. What else names them is made from it: the declarative
configuration here, and, by `make signals`, environment_variables.py and docs/configuration.md.
The only reader of `os.environ` in the instrumentation.
"""

from __future__ import annotations

import difflib
import logging
import math
import operator
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, NamedTuple

from warpspan.records import HardwareMode, StepMode

_logger = logging.getLogger("warpspan")
_PREFIX = "OTEL_PYTHON_WARPSPAN_"


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


def _mode(value: Any) -> HardwareMode:
    if isinstance(value, bool):  # as YAML reads on and off
        return HardwareMode.ON if value else HardwareMode.OFF
    return HardwareMode(str(value).strip().lower())


def _step_form(value: Any) -> StepMode:
    return StepMode(str(value).strip().lower())


class Deep(NamedTuple):
    """When inferences are profiled; exactly one of the first three is set.

    Args:
        share: of all inferences.
        burst: inferences in each period.
        slow: after one that is slower than nearly all of its kind.
        period_s: of `burst`; infinite for the first inferences of the process.
    """

    share: float | None = None
    burst: int | None = None
    slow: bool = False
    period_s: float = math.inf

    @property
    def at_begin(self) -> bool:
        """Whether it means the first inferences of the process."""
        return self.burst is not None and math.isinf(self.period_s)


_COUNTED = re.compile(r"(\d+)\s*/\s*(?:(\d+(?:\.\d+)?)\s*s|run)$")


def _deep(value: Any) -> Deep | None:
    text = str(value).strip().lower()
    if text in ("off", "false", "0"):
        return None
    if text == "slow":
        return Deep(slow=True)
    counted = _COUNTED.match(text)
    if counted is None:
        share = float(text)
        if not 0 < share <= 1:
            raise ValueError(value)
        return Deep(share=share)
    count, period_s = int(counted[1]), math.inf if counted[2] is None else float(counted[2])
    if not 1 <= count <= 1000 or period_s < 1:
        raise ValueError(value)
    return Deep(burst=count, period_s=period_s)


def _signal(value: Any) -> int | None:
    name = str(value).strip().upper()
    if name == "OFF":
        return None
    if name not in ("SIGUSR1", "SIGUSR2"):
        raise ValueError(value)
    return int(signal.Signals[name])


class Kind(NamedTuple):
    """The values that an option may have."""

    #: Makes one of what a user wrote; KeyError, TypeError or ValueError for what is not valid.
    parse: Callable[[Any], Any]
    #: What is valid, in words.
    allowed: str
    #: Its type in a configuration file.
    written_as: Any


FLAG = Kind(_flag, "true or false", bool)
PATTERNS = Kind(_patterns, "class names or patterns, separated by commas", list[str])
ENTRY_POINTS = Kind(
    _patterns, "names such as package.module:Class.method, separated by commas", list[str]
)
SIZE = Kind(_size, "a whole number from 16 to 1000000", int)
MEBIBYTES = Kind(int, "a whole number of MiB, or 0 for none", int)
SECONDS = Kind(_seconds, "seconds from 0 to 3600", float)
PERIOD = Kind(_period, "seconds from 0.1 to 10, or 0 for none", float)
MODE = Kind(_mode, "auto, on or off", str)
STEP_FORM = Kind(_step_form, "summary, events or spans", str)
PATH = Kind(str, "a path", str)
DEEP = Kind(_deep, "off, a share such as 0.001, a count such as 5/60s or 20/run, or slow", str)
SIGNAL = Kind(_signal, "off, SIGUSR1 or SIGUSR2", str)


class Option(NamedTuple):
    """One thing that a user can choose."""

    #: The environment variable.
    variable: str
    default: Any
    kind: Kind
    #: One sentence.
    meaning: str
    #: The page of docs/ that says more.
    page: str | None = None
    #: The argument of `instrument()`; None for what only the exporters read.
    argument: str | None = None


def _option(default: Any, kind: Kind, meaning: str, page: str | None = None) -> Any:
    return field(default=default, metadata={"kind": kind, "meaning": meaning, "page": page})


@dataclass(frozen=True)
class Settings:
    """The user's settings. Each field is also an argument of `instrument()`."""

    training: bool = _option(
        False, FLAG, "Also record module calls in training mode with gradients on."
    )
    parameterless: bool = _option(
        False, FLAG, "Also record outermost modules without parameters and buffers."
    )
    excluded_models: tuple[str, ...] = _option(
        (), PATTERNS, "Model classes that are not recorded, such as `Tiny*,Reranker`."
    )
    entry_points: tuple[str, ...] = _option(
        (),
        ENTRY_POINTS,
        "Methods and functions each call of which is one inference, such as "
        "`package.module:Class.method,package.module:function`.",
        "entry_points.md",
    )
    methods: bool = _option(
        True,
        FLAG,
        "Record a method that calls parts of its own module, such as `model.encode_text(x)`, as one "
        "inference; `false` records each part.",
        "entry_points.md",
    )
    memory: bool = _option(True, FLAG, "Read the allocator's counters around each inference.")
    transfers: bool = _option(
        True,
        FLAG,
        "Record waits for a CUDA device and copies to and from it; `false` leaves the methods of "
        "tensors alone.",
    )
    queue_size: int = _option(
        4096,
        SIZE,
        "Inferences that may wait for their device time and export; further ones are dropped and "
        "counted in `warpspan.dropped`.",
    )
    flush_timeout_s: float = _option(
        5.0,
        SECONDS,
        "Longest wait at the end of the process for inferences in flight, and then for the backend.",
    )
    gc_freeze: bool = _option(
        False,
        FLAG,
        "Once a model is warm, exclude all living objects from garbage collection.",
        "export.md#garbage-collection",
    )
    sample_period_s: float = _option(
        0.2,
        PERIOD,
        "Time between two samples of a GPU's counters while inferences run.",
        "device.md",
    )
    hardware_metrics: HardwareMode = _option(  # noqa: RUF009 - an immutable default
        HardwareMode.AUTO,
        MODE,
        "Export the `hw.*` metrics of the GPUs in use; `auto` exports them unless an environment "
        "variable names a dcgm-exporter.",
    )
    steps: StepMode = _option(  # noqa: RUF009 - likewise
        StepMode.SUMMARY,
        STEP_FORM,
        "How the steps of an inference are recorded: `summary` in its attributes only, `events` "
        "also one by one in an event of its span, `spans` also as child spans of the first 128.",
        "generate.md",
    )
    deep: Deep | None = _option(  # noqa: RUF009 - as above
        None,
        DEEP,
        "Profile some inferences: a share of them, so many in each period or at the begin of the "
        "process, or those after a `slow` one.",
        "profiling.md#capture-on-demand",
    )
    deep_directory: str | None = _option(
        None, PATH, "Keep the traces of profiled inferences in this directory.", "profiling.md"
    )
    deep_signal: int | None = _option(
        None, SIGNAL, "A signal after which the next inferences are profiled.", "profiling.md"
    )
    deep_operators: bool = _option(
        False,
        FLAG,
        "Also profile operators and the shapes of their inputs, which each operator pays for; "
        "`warpspan profile` sets it.",
        "profiling.md#warpspan-profile",
    )


def _options() -> Iterator[Option]:
    for one in fields(Settings):
        # A variable's name has no unit.
        variable = _PREFIX + one.name.removesuffix("_s").upper()
        yield Option(variable, one.default, **one.metadata, argument=one.name)
    yield Option(
        f"{_PREFIX}FILE",
        None,
        PATH,
        "The file that the exporter `warpspan_file` appends to; `warpspan run` sets it.",
        "export.md",
    )
    yield Option(
        f"{_PREFIX}FILE_LIMIT",
        1024,
        MEBIBYTES,
        "Size from which on nothing more is written to that file.",
        "export.md",
    )
    yield Option(
        f"{_PREFIX}EXPORT_HELPER",
        True,
        FLAG,
        "`false` runs the official exporters behind `warpspan_otlp` and `warpspan_file` in this "
        "process instead of a helper.",
        "export.md",
    )


#: All options, those of the exporters last.
OPTIONS: tuple[Option, ...] = tuple(_options())
_BY_ARGUMENT = {option.argument: option for option in OPTIONS if option.argument is not None}

#: The same fields for OpenTelemetry's declarative configuration; None is the default.
Configuration = make_dataclass(
    "Configuration",
    [(name, option.kind.written_as | None, None) for name, option in _BY_ARGUMENT.items()],
    namespace={"__module__": __name__},
)


def environment() -> Mapping[str, str]:
    """The environment of this process."""
    return os.environ


def set_default(variable: str, value: str) -> None:
    """Set an environment variable of this process that nobody has set."""
    os.environ.setdefault(variable, value)


def has_dcgm_exporter(environ: Mapping[str, str]) -> bool:
    """Whether a variable names a dcgm-exporter, as Kubernetes sets for a namespace's services."""
    return any("DCGM_EXPORTER" in name for name in environ)


def load(
    options: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Settings from options, then the environment, then the defaults.

    A wrong value is named in one warning and the default is used.
    """
    options = options or {}
    environ = os.environ if environ is None else environ
    chosen: dict[str, Any] = {}
    for name, option in _BY_ARGUMENT.items():
        source, value = name, options.get(name)
        if value is None:
            source, value = option.variable, environ.get(option.variable)
        if value is None or value == "":
            continue
        try:
            chosen[name] = option.kind.parse(value)
        except (KeyError, TypeError, ValueError):
            _logger.warning(
                "%s=%r is not valid: give %s. Using the default, %r.",
                source,
                value,
                option.kind.allowed,
                getattr(option.default, "value", option.default),
            )
    _warn_unknown("option", set(options) - set(_BY_ARGUMENT), sorted(_BY_ARGUMENT))
    ours = {name for name in environ if name.startswith(_PREFIX)}
    known = sorted(option.variable for option in OPTIONS)
    _warn_unknown("variable", ours - set(known), known)
    return Settings(**chosen)


def _warn_unknown(kind: str, unknown: set[str], known: list[str]) -> None:
    for name in sorted(unknown):
        # Of names that all begin alike, what follows is what can be similar.
        endings = {other.removeprefix(_PREFIX): other for other in known}
        close = difflib.get_close_matches(name.removeprefix(_PREFIX), endings, n=1)
        advice = f"Did you mean {endings[close[0]]}?" if close else f"Known: {', '.join(known)}."
        _logger.warning("Unknown %s %s is ignored. %s", kind, name, advice)
