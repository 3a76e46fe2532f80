"""The environment of a program under `warpspan run`: pure functions on mappings."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from opentelemetry.environment_variables import (
    OTEL_LOGS_EXPORTER,
    OTEL_METRICS_EXPORTER,
    OTEL_TRACES_EXPORTER,
)
from opentelemetry.instrumentation.environment_variables import (
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS,
)
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_BSP_SCHEDULE_DELAY,
    OTEL_CONFIG_FILE,
    OTEL_METRIC_EXPORT_INTERVAL,
    OTEL_RESOURCE_ATTRIBUTES,
    OTEL_SDK_DISABLED,
    OTEL_SERVICE_NAME,
    OTEL_TRACES_SAMPLER,
)

from warpspan.environment_variables import OTEL_PYTHON_WARPSPAN_FILE

_EXPORTER = "warpspan_file"
_DEFAULTS = {
    OTEL_LOGS_EXPORTER: "none",
    # A killed process loses no more than the last second of spans and ten of metrics.
    OTEL_BSP_SCHEDULE_DELAY: "1000",
    OTEL_METRIC_EXPORT_INTERVAL: "10000",
}
# The SDK refuses a batch larger than the queue, so one that is set keeps us from both. The
# Collector's otlp_json_file receiver reads lines of up to 1 MiB, and a span takes up to 4 KB.
_SIZES = {OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "128", OTEL_BSP_MAX_QUEUE_SIZE: "16384"}
_VALUED_OPTIONS = {"-W", "-X", "--check-hash-based-pycs"}


def environment(
    base: Mapping[str, str], command: Sequence[str], file: Path, *, explicit: bool
) -> dict[str, str]:
    """What the program gets: what `opentelemetry-instrument` sets, and the exporters to a file.

    Args:
        base: the environment of `warpspan run`; what it sets for OpenTelemetry is kept.
        command: the program and its arguments.
        file: where spans and metrics go.
        explicit: whether the user named the file; then `none` for an exporter gives way.
    """
    chosen = {name: base[name] for name in base if base[name].strip()}
    defaults = dict(_DEFAULTS)
    if not _SIZES.keys() & chosen.keys():
        defaults.update(_SIZES)
    if "service.name=" not in chosen.get(OTEL_RESOURCE_ATTRIBUTES, ""):
        defaults[OTEL_SERVICE_NAME] = service_name(command)
    missing = {name: value for name, value in defaults.items() if name not in chosen}
    return {
        **base,
        **missing,
        OTEL_PYTHON_WARPSPAN_FILE: str(file.absolute()),
        "PYTHONPATH": _python_path(base.get("PYTHONPATH", "")),
        **{
            name: _exporters(base.get(name, ""), explicit=explicit)
            for name in (OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER)
        },
    }


def service_name(command: Sequence[str]) -> str:
    """A name for the service: the script or module that Python runs, else the program.

    `python -u app.py` is `app`, `python -m pkg.serve` is `pkg.serve`, `uvicorn app:app` `uvicorn`.
    """
    program = Path(command[0]).stem
    if not re.fullmatch(r"(python|pypy)[\d.]*", Path(command[0]).name):
        return program
    arguments = iter(command[1:])
    for argument in arguments:
        if argument == "-m":
            return next(arguments, program)
        if argument in ("-", "-c"):
            return program
        if argument in _VALUED_OPTIONS:
            next(arguments, None)
        elif not argument.startswith("-"):
            return Path(argument).stem
    return program


def reasons(base: Mapping[str, str]) -> list[str]:
    """What in the environment keeps inferences from being recorded, a sentence each."""
    found = []
    disabled = base.get(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, "").split(",")
    if {"*", "warpspan"} & {name.strip() for name in disabled}:
        found.append(f"{OTEL_PYTHON_DISABLED_INSTRUMENTATIONS} turns warpspan off.")
    if base.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
        found.append(f"{OTEL_SDK_DISABLED} turns OpenTelemetry off.")
    if base.get(OTEL_CONFIG_FILE):
        found.append(f"{OTEL_CONFIG_FILE} is set: its exporters are used instead of the file.")
    if base.get(OTEL_TRACES_EXPORTER, "").strip() == "none":
        found.append(f"{OTEL_TRACES_EXPORTER} is none: name a file with -o to record spans.")
    if base.get(OTEL_TRACES_SAMPLER, "").strip().endswith("always_off"):
        found.append(f"{OTEL_TRACES_SAMPLER} drops every span that has no sampled parent.")
    return found


def _exporters(chosen: str, *, explicit: bool) -> str:
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    if names == ["none"] and not explicit:
        return "none"
    return ",".join([*(name for name in names if name not in ("none", _EXPORTER)), _EXPORTER])


def _python_path(chosen: str) -> str:
    """As `opentelemetry-instrument` makes it: its sitecustomize first, the working directory."""
    found = importlib.util.find_spec("opentelemetry.instrumentation.auto_instrumentation")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(name="opentelemetry.instrumentation")
    hook = str(Path(found.origin).parent)
    rest = [part for part in chosen.split(os.pathsep) if part and part != hook]
    here = str(Path.cwd())
    return os.pathsep.join([hook, *([] if here in rest else [here]), *rest])
