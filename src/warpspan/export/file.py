"""The exporter `warpspan_file`: OpenTelemetry's OTLP JSON file exporter, for `warpspan run`.

Traces and metrics of several processes go to one file, which an environment variable names. The
official exporter runs in the export helper, as that of `warpspan_otlp` does.
"""

from __future__ import annotations

import os

from warpspan.export import appender, notes, official, otlp


class WarpspanFileSpanExporter(otlp.WarpspanSpanExporter):
    """Spans, one batch a line.

    Raises:
        ValueError: no file is named.
    """

    target = official.FILE

    def __init__(self) -> None:
        notes.take_part(appender.path(os.environ))
        super().__init__(in_process=not appender.is_writable(os.environ))


class WarpspanFileMetricExporter(otlp.WarpspanMetricExporter):
    """Metrics, one collection a line.

    Raises:
        ValueError: no file is named.
    """

    target = official.FILE

    def __init__(self) -> None:
        notes.take_part(appender.path(os.environ))
        super().__init__(in_process=not appender.is_writable(os.environ))
