"""The distro `warpspan`: the exporters `warpspan_otlp` where none was chosen.

Only `OTEL_PYTHON_DISTRO=warpspan` chooses it.
"""

from __future__ import annotations

import os
from typing import Any

from opentelemetry.environment_variables import (
    OTEL_LOGS_EXPORTER,
    OTEL_METRICS_EXPORTER,
    OTEL_TRACES_EXPORTER,
)
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]
from opentelemetry.instrumentation.environment_variables import OTEL_PYTHON_DISTRO

_NAME = "warpspan"
_EXPORTER = "warpspan_otlp"


class WarpspanDistro(BaseDistro):  # type: ignore[misc]
    """OpenTelemetry's own distro, with its OTLP exporters in a helper process."""

    def _configure(self, **_: Any) -> None:
        for variable in (OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_LOGS_EXPORTER):
            if not os.environ.get(variable, "").strip():
                os.environ[variable] = _EXPORTER


def distro() -> WarpspanDistro | None:
    """The distro, where it was asked for by name.

    Without a name OpenTelemetry takes the first distro that is installed. Whoever installed this
    package did not choose it by that, so the answer is then no distro, which the loader skips.
    """
    return WarpspanDistro() if os.environ.get(OTEL_PYTHON_DISTRO) == _NAME else None
