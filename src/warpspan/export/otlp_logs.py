"""The exporter `warpspan_otlp` for logs; apart, since older SDKs have none of its names."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

from warpspan.export import wire
from warpspan.export.channel import Channel
from warpspan.export.otlp import Handover, in_slices
from warpspan.export.pack import Packer


class WarpspanLogExporter(LogRecordExporter):
    """Log records by OTLP, encoded and sent by the helper process."""

    def __init__(self, channel: Channel | None = None) -> None:
        self._handover = Handover(wire.LOGS, channel)
        self._packer = Packer()

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Hand over log records."""
        sent = self._handover.send(batch, in_slices(batch, self._packer.logs))
        return LogRecordExportResult.SUCCESS if sent else LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Wait for the export of what was handed over; False where time ran out."""
        return self._handover.flush(timeout_millis / 1e3)

    def shutdown(self, timeout_millis: float = 30000) -> None:
        """Export what was handed over, in time, and end."""
        self._handover.close(timeout_millis / 1e3)
