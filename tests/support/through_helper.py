"""A pytest plugin: every span that a suite keeps in memory goes the way of the export helper.

`pytest -p tests.support.through_helper`. A test sees each span as it is rebuilt from the wire,
and a helper sends all of them to a receiver on this machine. The session fails where one of them
did not arrive.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any
from unittest import mock

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support.otlp import OtlpReceiver, http_receiver
from warpspan.export import wire
from warpspan.export.channel import Channel
from warpspan.export.pack import Packer
from warpspan.export.unpack import Unpacker

_TIMEOUT_S = 60.0


class _ThroughHelper:
    def __init__(self, receiver: OtlpReceiver, process: int) -> None:
        self.receiver = receiver
        self.channel = Channel({**os.environ, **receiver.environ})
        self.channel.attach(wire.TRACES)
        self.sent = 0
        self._process = process
        self._keep = InMemorySpanExporter.export

    def export(self, exporter: InMemorySpanExporter, spans: Any) -> Any:
        packed = Packer().spans(spans)
        if os.getpid() == self._process:
            self.channel.add(self.channel.open(wire.TRACES), packed, len(spans), last=True)
            self.sent += len(spans)
        return self._keep(exporter, Unpacker().spans([packed]))


_stack = ExitStack()
_through: _ThroughHelper | None = None


def pytest_configure() -> None:
    """Turn every in-memory exporter into one behind the helper."""
    global _through
    through = _through = _ThroughHelper(_stack.enter_context(http_receiver()), os.getpid())

    def export(exporter: InMemorySpanExporter, spans: Any) -> Any:
        return through.export(exporter, spans)

    _stack.enter_context(mock.patch.object(InMemorySpanExporter, "export", export))


def pytest_sessionfinish(session: Any) -> None:
    """Fail where a span did not arrive."""
    if _through is None:
        return
    done = _through.channel.detach(wire.TRACES, _TIMEOUT_S)
    arrived = len(_through.receiver.span_names())
    print(f"\n{arrived} of {_through.sent} spans arrived through the export helper")
    _stack.close()
    if not done or arrived != _through.sent:
        session.exitstatus = 1
