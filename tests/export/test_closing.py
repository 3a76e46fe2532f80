"""The end of an export before a collector that is gone: bounded, and said in one line."""

from __future__ import annotations

import os
import socket
from collections import Counter

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from tests.export.test_channel import hand_over, spans
from warpspan import config, forks
from warpspan.export import closing, official, wire
from warpspan.export.channel import Channel
from warpspan.export.otlp import WarpspanSpanExporter

FLUSH_TIMEOUT = "OTEL_PYTHON_WARPSPAN_FLUSH_TIMEOUT"


class Clock:
    """Monotonic seconds that pass where the channel waits, a second each time."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        wait = Channel._wait

        def slow(channel, deadline, *, writing):
            wait(channel, deadline, writing=writing)
            self.now += 1.0

        monkeypatch.setattr(Channel, "_wait", slow)

    def __call__(self) -> float:
        return self.now


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "warpspan"]


def test_the_ends_of_all_exporters_share_one_limit(receiver, monkeypatch, caplog):
    """Each may ask for 30 s, as the SDK does; together they get the one that is set."""
    monkeypatch.setenv(FLUSH_TIMEOUT, "7")
    clock = Clock(monkeypatch)
    channel = Channel(os.environ, clock=clock)
    exporter = WarpspanSpanExporter(channel)
    channel.attach(wire.LOGS)
    exporter.export(spans("a"))
    receiver.answering.clear()
    hand_over(exporter, "b", "c")
    receiver.wait(2, answered=False)
    before = clock.now

    exporter.shutdown()
    channel.detach(wire.LOGS, 30.0)

    assert 7.0 == clock.now - before
    assert {("traces", "shutdown"): 2} == channel.dropped
    address = receiver.endpoint.removeprefix("http://")
    assert [
        f"warpspan: 2 spans were lost at the end of the program: {address} did not take them "
        f"within 7 s ({FLUSH_TIMEOUT})"
    ] == said(caplog)


def test_the_start_of_a_helper_is_not_the_collectors_time(receiver, monkeypatch):
    """A slow machine takes longer to start Python than a collector may take for its answer."""
    monkeypatch.setenv(FLUSH_TIMEOUT, "0")
    channel = Channel(os.environ)
    exporter = WarpspanSpanExporter(channel)
    hand_over(exporter, "a")
    while channel.backlog[0] and not channel._ready:
        channel._await_helper(channel._clock() + 30.0)
    assert True is channel._ready
    exporter.shutdown()


def test_a_helper_that_is_done_says_nothing(receiver, caplog):
    """The usual end."""
    exporter = WarpspanSpanExporter(Channel(os.environ))
    exporter.export(spans("a"))
    exporter.shutdown()
    assert ([], ["a"]) == (said(caplog), receiver.span_names())


@pytest.fixture
def refusing(monkeypatch):
    """An address where nobody listens, by each protocol."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    return port


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_official_exporter_in_the_process_is_bounded_too(
    refusing, monkeypatch, caplog, protocol
):
    """From the end of the program on, all its requests together have the limit."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv(FLUSH_TIMEOUT, "0.5")
    exporter = WarpspanSpanExporter(in_process=True)
    timeouts = []
    make = official.make
    monkeypatch.setattr(
        official,
        "make",
        lambda *arguments, timeout_s=None: (
            timeouts.append(timeout_s) or make(*arguments, timeout_s=timeout_s)
        ),
    )
    exporter._handover._hurry()
    for _ in range(3):
        assert "FAILURE" == exporter.export(spans("a", "b")).name
    exporter.shutdown()
    assert sorted(timeouts, reverse=True) == timeouts
    assert 0 < timeouts[-1] <= timeouts[0] <= 0.5
    assert [
        f"warpspan: 6 spans were lost at the end of the program: 127.0.0.1:{refusing} did not take "
        f"them within 0.5 s ({FLUSH_TIMEOUT})"
    ] == said(caplog)


def test_the_end_of_the_process_hurries(receiver, monkeypatch):
    """The exporters take part in the exit before any provider is shut down."""
    exporter = WarpspanSpanExporter(in_process=True)
    forks._run(forks._Moment.AT_EXIT)
    assert exporter._handover._until is not None
    exporter.shutdown()


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, 5.0), ("", 5.0), ("2.5", 2.5), ("0", 0.0), ("soon", 5.0), ("-1", 5.0), ("1e9", 5.0)],
)
def test_the_limit_is_the_setting(value, expected):
    """As the instrumentation reads it, whose faults it reports there."""
    environ = {} if value is None else {FLUSH_TIMEOUT: value}
    assert expected == closing.flush_timeout_s(environ)
    assert expected == config.load({}, environ).flush_timeout_s


def test_the_sentence_counts_each_signal():
    """In the words of the signals."""
    lost = Counter({"traces": 1, "metrics": 12, "logs": 3})
    assert (
        "warpspan: 1 span, 12 metric points and 3 log records were lost at the end of the program: "
        f"host:4317 did not take them within 5 s ({FLUSH_TIMEOUT})"
    ) == closing.sentence(lost, "host:4317", 5.0)
