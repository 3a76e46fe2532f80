"""The metrics of waits and transfers: sums over inferences, by kind and by direction."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from opentelemetry.metrics import Meter, Observation

from warpspan.emit.instruments import Active, Totals, observe, totals
from warpspan.records import Inference
from warpspan.signals import instruments, names

_METRICS = (
    instruments.PYTORCH_INFERENCE_SYNC_CALLS,
    instruments.PYTORCH_INFERENCE_SYNC_TIME,
    instruments.PYTORCH_INFERENCE_TRANSFER_COPIES,
    instruments.PYTORCH_INFERENCE_TRANSFER_IO,
    instruments.PYTORCH_INFERENCE_TRANSFER_TIME,
)


class TransferMetrics:
    """Creates the instruments and adds to them.

    Args:
        meter: where they are created.
    """

    def __init__(self, meter: Meter) -> None:
        _active.set(self, meter)
        self._sums = {metric.name: totals(meter, metric.name) for metric in _METRICS}
        for metric in _METRICS:
            observe(
                meter.create_observable_counter,
                metric,
                _active.asking(meter, partial(TransferMetrics._observe, name=metric.name)),
            )

    def close(self) -> None:
        """Observe nothing any more."""
        _active.clear(self)

    def record(self, record: Inference) -> None:
        """Add what an inference waited for and copied."""
        labels: dict[str, Any] = record.start_attributes()
        if record.error_type is not None:
            labels[names.ERROR_TYPE] = record.error_type
        if record.syncs is not None:
            for kind, total, stalled_s in record.syncs.kinds:
                kinds = {**labels, names.PYTORCH_SYNC_KIND: kind}
                self._add(instruments.PYTORCH_INFERENCE_SYNC_CALLS.name, kinds, total)
                self._add(instruments.PYTORCH_INFERENCE_SYNC_TIME.name, kinds, stalled_s)
        if record.transfers is not None:
            for way in ("h2d", "d2h", "d2d"):
                transfer = getattr(record.transfers, way)
                if transfer is None:
                    continue
                ways = {**labels, names.PYTORCH_TRANSFER_DIRECTION: way}
                self._add(instruments.PYTORCH_INFERENCE_TRANSFER_COPIES.name, ways, transfer.total)
                self._add(instruments.PYTORCH_INFERENCE_TRANSFER_TIME.name, ways, transfer.time_s)
                pageable = transfer.pageable_bytes
                for memory, nbytes in (
                    ("pageable", pageable),
                    ("device" if way == "d2d" else "pinned", transfer.nbytes - pageable),
                ):
                    if nbytes:
                        memories = {**ways, names.PYTORCH_TRANSFER_MEMORY: memory}
                        self._add(instruments.PYTORCH_INFERENCE_TRANSFER_IO.name, memories, nbytes)

    def _add(self, name: str, labels: dict[str, Any], amount: float | None) -> None:
        if amount is not None:
            sums: Totals = self._sums[name]
            key = tuple(labels.items())
            sums[key] = sums.get(key, 0) + amount

    def _observe(self, name: str) -> Iterable[Observation]:
        for labels, amount in list(self._sums[name].items()):
            yield Observation(amount, dict(labels))


_active: Active[TransferMetrics] = Active()
