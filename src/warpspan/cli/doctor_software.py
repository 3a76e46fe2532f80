"""The checks of packages, settings and exporters."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Iterator, Mapping
from importlib import metadata

from warpspan import config
from warpspan.cli.doctor_device import has_device_files
from warpspan.cli.ending import INSTALL
from warpspan.cli.environment import reasons
from warpspan.cli.finding import Finding
from warpspan.device.driver import INSTALL as INSTALL_GPU
from warpspan.records import HardwareMode

_OLDEST_TORCH = (2, 4)
_GROUP = "opentelemetry_instrumentor"


def version(package: str) -> str | None:
    """The installed version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def torch_build(environ: Mapping[str, str]) -> Iterator[Finding]:  # noqa: ARG001
    """The torch that is installed, and the devices that it sees."""
    if importlib.util.find_spec("torch") is None:
        yield Finding(
            "error",
            "torch",
            "is not installed here",
            "install warpspan in the environment of your program",
        )
        return
    import torch

    release = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if release < _OLDEST_TORCH:
        yield Finding("error", "torch", f"{torch.__version__} is too old", "torch 2.4 or newer")
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    if torch.version.hip:
        build = f"ROCm {torch.version.hip}"
    said = f"{torch.__version__}, built with {build}"
    count = torch.cuda.device_count()
    if count:
        names = ", ".join(dict.fromkeys(torch.cuda.get_device_name(i) for i in range(count)))
        yield Finding("ok", "torch", f"{said}; sees {count} × {names}")
        if torch.version.hip:
            yield Finding(
                "note", "torch", "ROCm has device time and memory, but no driver counters"
            )
    else:
        yield Finding("ok", "torch", f"{said}; sees no GPU")


def instrumentation(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether `opentelemetry-instrument` finds warpspan and what it needs."""
    points = [point for point in metadata.entry_points(group=_GROUP) if point.name == "warpspan"]
    if not points:
        yield Finding(
            "error",
            "entry point",
            f"{_GROUP} has no entry for warpspan",
            "install warpspan with pip",
        )
    else:
        point = points[0]
        try:
            point.load()
            yield Finding("ok", "entry point", f"{_GROUP}: {point.value}")
        except Exception as error:
            yield Finding("error", "entry point", f"{point.value} can't be loaded: {error}")
    missing = [name for name in ("opentelemetry-sdk", "opentelemetry-distro") if not version(name)]
    if missing:
        yield Finding("error", "OpenTelemetry", f"{' and '.join(missing)} not installed", INSTALL)
    for reason in reasons(environ):
        yield Finding("warning", "environment", reason.rstrip("."))


def settings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """The values of our variables."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("warpspan")
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        chosen = config.load({}, environ)
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
    for sentence in said:
        yield Finding("warning", "settings", sentence)
    hardware = chosen.hardware_metrics
    if hardware == HardwareMode.AUTO and config.has_dcgm_exporter(environ):
        yield Finding(
            "note",
            "hw.* metrics",
            "are left to the dcgm-exporter that an environment variable names",
            "OTEL_PYTHON_WARPSPAN_HARDWARE_METRICS=on exports them here as well",
        )
    if not chosen.sample_period_s:
        yield Finding("note", "sampling", "is off: OTEL_PYTHON_WARPSPAN_SAMPLE_PERIOD is 0")


def conflicts(environ: Mapping[str, str]) -> Iterator[Finding]:  # noqa: ARG001
    """Packages that do not fit together."""
    api, sdk = version("opentelemetry-api"), version("opentelemetry-sdk")
    if api and sdk and api.split(".")[:2] != sdk.split(".")[:2]:
        yield Finding(
            "warning",
            "versions",
            f"opentelemetry-api {api} and opentelemetry-sdk {sdk} differ",
            "pip install -U opentelemetry-api opentelemetry-sdk",
        )
    if version("pynvml") and version("nvidia-ml-py"):
        owners = metadata.packages_distributions().get("pynvml", [])
        if "pynvml" in owners:
            yield Finding(
                "warning",
                "versions",
                "the retired package pynvml overwrites nvidia-ml-py: both contain a module pynvml",
                "pip uninstall pynvml; pip install --force-reinstall nvidia-ml-py",
            )
    if has_device_files() and version("nvidia-ml-py") is None:
        yield Finding("error", "versions", "nvidia-ml-py is not installed", INSTALL_GPU)
