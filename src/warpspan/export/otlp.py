"""The exporters `warpspan_otlp`: OpenTelemetry's own OTLP exporters, in a helper process.

Encoding a batch of spans as protobuf takes the GIL for tens of milliseconds, which every thread
that runs an inference feels. Here the process only packs the items, in short slices.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from warpspan import forks, guard
from warpspan.environment_variables import OTEL_PYTHON_WARPSPAN_EXPORT_HELPER
from warpspan.export import closing, official, preferences, wire
from warpspan.export.batch import Batch
from warpspan.export.channel import Channel
from warpspan.export.observe import observe
from warpspan.export.pack import SLICE, Packer
from warpspan.export.unpack import Unpacker

# Between two slices, so that a caller in the middle of an inference gets the GIL: a write alone
# gives it away for too short a time to be woken in.
_PAUSE_S = 0.002
# An export that took so long makes no more pauses, so that a busy machine, on which each of them
# takes much longer than asked for, does not make it lose spans.
_PAUSES_S = 0.04
# How long a processor's thread waits for a helper that takes nothing, one that is starting for
# example. The SDK's queue fills in 0.4 s at 5,000 spans a second; what is not taken by then goes
# with the next export, flush or shutdown.
_SETTLE_S = 0.02
# How long a flush waits for the helper: OTEL_BSP_EXPORT_TIMEOUT's default.
_FLUSH_S = 30.0
# Threads whose work nobody waits for. Under any other name an export is somebody's flush.
_WORKERS = ("OtelBatch", "OtelPeriodicExporting")

_lock = threading.RLock()
_channels: dict[str, Channel] = {}


def shared_channel(target: str = official.OTLP) -> Channel:
    """The channel of all exporters that are configured alike."""
    with _lock:
        channel = _channels.get(target)
        if (
            channel is None
            or channel.closed
            or _settings(channel.variables) != _settings(os.environ)
        ):
            channel = _channels[target] = Channel(os.environ, target)
        return channel


def _settings(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in environ if name.startswith("OTEL_")}


class Handover:
    """What the exporters of all signals have in common.

    Args:
        kind: the signal, as on the wire.
        channel: to the helper; by default the one that all exporters share.
        target: where the official exporter sends to.
        in_process: export here, without a helper.

    Raises:
        ValueError: the variables choose no exporter that there is.
    """

    def __init__(
        self,
        kind: int,
        channel: Channel | None = None,
        target: str = official.OTLP,
        *,
        in_process: bool = False,
    ) -> None:
        self._signal = wire.SIGNALS[kind]
        self._target = target
        official.check(target, self._signal, os.environ)
        self._kind = kind
        self._direct: Any = None
        self._directing = threading.RLock()
        self._channel: Channel | None = None
        self._closed = False
        self._until: float | None = None
        self._lost = 0
        chosen = os.environ.get(OTEL_PYTHON_WARPSPAN_EXPORT_HELPER, "").strip().lower()
        if in_process or chosen in ("false", "0"):
            self._direct = official.make(target, self._signal, os.environ)
        else:
            self._channel = shared_channel(target) if channel is None else channel
            self._channel.attach(kind)
            observe(self._channel)
        forks.join(at_exit=self._hurry)

    def send(self, items: Any, slices: Iterable[tuple[bytes, int]]) -> bool:
        """Hand over a batch; False where it is known to be lost, wholly or in part."""
        forks.check()
        if self._closed:
            return False
        channel = self._channel
        if channel is None:
            return self._export_here(items)
        working = threading.current_thread().name.startswith(_WORKERS)
        lost = sum(channel.dropped.values())
        batch = channel.open(self._kind)
        self._add(channel, batch, slices, pause_s=_PAUSE_S if working else 0.0)
        if working:
            channel.settle(_SETTLE_S)
        else:
            channel.wait(_FLUSH_S, self._kind)
        if channel.broken is not None:
            return self._send_directly(channel)
        return sum(channel.dropped.values()) == lost

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything that was handed over was exported; False where time ran out."""
        channel = self._channel
        if channel is None:
            return True
        done = channel.wait(timeout_s, self._kind)
        return self._send_directly(channel) if channel.broken is not None else done

    def close(self, timeout_s: float) -> None:
        """Flush, and end the helper with the last exporter."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + timeout_s
        if self._channel is not None:
            self._channel.detach(self._kind, timeout_s)
            if self._channel.broken is not None:
                self._send_directly(self._channel)
        direct, self._direct = self._direct, None
        if direct is not None:
            left_ms = max(0.0, deadline - time.monotonic()) * 1e3
            if self._signal == "metrics":
                direct.shutdown(timeout_millis=left_ms)
            else:
                direct.shutdown()
        if self._lost:
            where = official.address(self._target, self._signal, os.environ)
            lost = Counter({(self._signal, "shutdown"): self._lost})
            closing.say(lost, where, closing.flush_timeout_s(os.environ))

    def _hurry(self) -> None:
        """The program ends: what its own official exporter still sends has a limit from now on."""
        self._until = time.monotonic() + closing.flush_timeout_s(os.environ)
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.shutdown()  # ends the pause before a repetition

    def _export_here(self, items: Any) -> bool:
        """Export by the official exporter in this process."""
        direct = self._direct
        if self._until is None and direct is not None:
            return bool(direct.export(items).name == "SUCCESS")
        sent = False
        left_s = (self._until or 0.0) - time.monotonic()
        if left_s > 0:
            # A new one: it can be given its limit, within which it tries again, only here.
            hurried = official.make(self._target, self._signal, os.environ, timeout_s=left_s)
            sent = hurried.export(items).name == "SUCCESS"
            hurried.shutdown()
        if not sent:
            self._lost += _count(items)
        return sent

    def _add(
        self,
        channel: Channel,
        batch: Batch,
        slices: Iterable[tuple[bytes, int]],
        pause_s: float,
    ) -> None:
        following = iter(slices)
        began_ns = time.perf_counter_ns()
        until_ns = began_ns + int(_PAUSES_S * 1e9)
        current = next(following, (b"", 0))
        while current is not None:
            # Ahead of the sending of the current one: only then it is known to be the last.
            upcoming = next(following, None)
            channel.add(batch, *current, last=upcoming is None)
            channel.sliced(time.perf_counter_ns() - began_ns)
            if upcoming is None:
                return
            if pause_s and time.perf_counter_ns() < until_ns:
                time.sleep(pause_s)
            began_ns = time.perf_counter_ns()
            current = upcoming

    def _send_directly(self, channel: Channel) -> bool:
        """What waits, by the official exporter in this process."""
        sent = True
        with self._directing:
            try:
                if self._direct is None and self._until is None:
                    self._direct = official.make(self._target, self._signal, os.environ)
                unpack = getattr(Unpacker(), _UNPACK[self._kind])
                for batch in channel.take(self._kind):
                    if not self._export_here(unpack(batch.payloads)):
                        channel.dropped[self._signal, "export"] += batch.items
                        sent = False
            except Exception as error:
                guard.caught("export", error)
                return False
        return sent


def _count(items: Any) -> int:
    """Spans, log records or metric points."""
    if not hasattr(items, "resource_metrics"):
        return len(items)
    return sum(
        len(metric.data.data_points)
        for resource in items.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


_UNPACK = {wire.TRACES: "spans", wire.METRICS: "metrics", wire.LOGS: "logs"}


class WarpspanSpanExporter(SpanExporter):
    """Spans by OTLP, encoded and sent by the helper process."""

    target = official.OTLP

    def __init__(self, channel: Channel | None = None, *, in_process: bool = False) -> None:
        self._handover = Handover(wire.TRACES, channel, self.target, in_process=in_process)
        self._packer = Packer()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand over finished spans."""
        sent = self._handover.send(spans, in_slices(spans, self._packer.spans))
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Wait for the export of what was handed over; False where time ran out."""
        return self._handover.flush(timeout_millis / 1e3)

    def shutdown(self, timeout_millis: float = 30000) -> None:
        """Export what was handed over, in time, and end."""
        self._handover.close(timeout_millis / 1e3)


class WarpspanMetricExporter(MetricExporter):
    """Metrics by OTLP, encoded and sent by the helper process.

    Temporality and aggregation follow the same variables as the official exporter's.
    """

    target = official.OTLP

    def __init__(self, channel: Channel | None = None, *, in_process: bool = False) -> None:
        super().__init__(
            preferred_temporality=preferences.temporality(os.environ),
            preferred_aggregation=preferences.aggregation(os.environ),
        )
        self._handover = Handover(wire.METRICS, channel, self.target, in_process=in_process)
        self._packer = Packer()

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10000,  # noqa: ARG002 - the official one has its own
        **kwargs: Any,  # noqa: ARG002
    ) -> MetricExportResult:
        """Hand over a collection."""
        sent = self._handover.send(metrics_data, self._packer.metrics(metrics_data))
        return MetricExportResult.SUCCESS if sent else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10000) -> bool:
        """Wait for the export of what was handed over; False where time ran out."""
        return self._handover.flush(timeout_millis / 1e3)

    def shutdown(self, timeout_millis: float = 30000, **kwargs: Any) -> None:
        """Export what was handed over, in time, and end."""
        # The SDK's reader names the milliseconds that it leaves `timeout`.
        self._handover.close(kwargs.get("timeout", timeout_millis) / 1e3)


def in_slices(items: Sequence[Any], pack: Any) -> Iterator[tuple[bytes, int]]:
    """Items packed a slice at a time, each when it is asked for."""
    for start in range(0, len(items), SLICE):
        part = items[start : start + SLICE]
        yield pack(part), len(part)
