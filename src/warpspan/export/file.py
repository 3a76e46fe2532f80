"""The exporter `warpspan_file`: OpenTelemetry's OTLP JSON file exporter, for `warpspan run`.

Traces and metrics of several processes go to one file, which an environment variable names.
"""

from __future__ import annotations

import functools
import io
import logging
import os
from pathlib import Path
from typing import IO, Any, cast

from opentelemetry.exporter.otlp.json.file import FileMetricExporter, FileSpanExporter

from warpspan.environment_variables import OTEL_PYTHON_WARPSPAN_FILE
from warpspan.export.forks import call_after_fork

_logger = logging.getLogger("warpspan")


class LineAppender(io.TextIOBase):
    """Appends each text it is given by one write.

    The system keeps a write to a file opened with O_APPEND whole among all processes. A buffered
    file would break a line longer than its buffer (8 KiB; a batch of spans has hundreds) in two.
    """

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        self._descriptor = os.open(path, flags, 0o666)

    def write(self, text: str, /) -> int:
        """Append a text. Only a full disk or the like makes it more than one write."""
        rest = memoryview(text.encode())
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        return len(text)


def _open() -> IO[str]:
    path = os.environ.get(OTEL_PYTHON_WARPSPAN_FILE)
    if not path:
        raise ValueError(
            f"the exporter warpspan_file needs a file: set {OTEL_PYTHON_WARPSPAN_FILE}, "
            "or start the program with `warpspan run`"
        )
    try:
        return cast("IO[str]", LineAppender(path))
    except OSError as error:
        _warn(path, str(error.strerror))
        return Path(os.devnull).open("a", encoding="utf-8")


@functools.cache  # once, not for spans and for metrics
def _warn(path: str, reason: str) -> None:
    _logger.warning(
        "%s=%r can't be written (%s): give the path of a file in an existing folder. "
        "Nothing is recorded.",
        OTEL_PYTHON_WARPSPAN_FILE,
        path,
        reason,
    )


class WarpspanFileSpanExporter(FileSpanExporter):
    """Spans, one batch a line."""

    def __init__(self) -> None:
        self._begin()
        call_after_fork(self._begin)

    def _begin(self) -> None:
        # Again in a forked child: another thread of the parent may have held the exporter's lock.
        super().__init__(stream=_open())


class WarpspanFileMetricExporter(FileMetricExporter):
    """Metrics, one collection a line.

    Args:
        **options: temporality and aggregation, as the official exporter takes them.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._begin()
        call_after_fork(self._begin)

    def _begin(self) -> None:
        super().__init__(stream=_open(), **self._options)
