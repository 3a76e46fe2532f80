"""The machine and the versions that figures hold for."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from warpspan import __version__


def describe_environment() -> dict[str, Any]:
    """The hardware and the versions that figures hold for."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "Python": platform.python_version(),
        "torch": version("torch"),
        "opentelemetry-sdk": version("opentelemetry-sdk"),
        "warpspan": __version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
