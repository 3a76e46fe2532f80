"""The helper's life: whatever happens to it, nothing waits for ever and nothing is lost silently."""

import os
import select
import signal
import socket
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.sdk.trace import TracerProvider

from warpspan import guard
from warpspan.export import channel as channel_module
from warpspan.export import spawn, wire
from warpspan.export.channel import Channel
from warpspan.export.otlp import WarpspanSpanExporter


@pytest.fixture
def channel(receiver):
    return Channel(os.environ)


@pytest.fixture
def exporter(channel):
    made = WarpspanSpanExporter(channel)
    yield made
    made.shutdown(timeout_millis=0)


def spans(*names):
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    made = [tracer.start_span(name) for name in names]
    for span in made:
        span.end()
    return made


def hand_over(exporter, *names):
    """Export as the thread of a batch processor does: nobody waits for the delivery."""
    thread = threading.Thread(
        target=exporter.export, args=(spans(*names),), name="OtelBatchSpanRecordProcessor"
    )
    thread.start()
    thread.join()


def wait_for_end(pid, timeout_s=120):
    """Wait until a process is gone, whoever started it; a zombie is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


def kill(channel):
    pid = channel.helper_pid
    os.kill(pid, signal.SIGKILL)
    assert wait_for_end(pid)


@pytest.fixture
def no_back_off(monkeypatch):
    monkeypatch.setattr(channel_module, "_BACK_OFF_S", 0.0)


def test_a_processors_thread_does_not_wait_for_the_backend(receiver, channel, exporter):
    """It hands over and goes on; a flush waits."""
    receiver.answering.clear()
    hand_over(exporter, "a")
    assert ([], 1) == (receiver.requests, channel.backlog[0])
    receiver.answering.set()
    assert exporter.force_flush()
    assert (["a"], (0, 0)) == (receiver.span_names(), channel.backlog)


def test_a_flush_by_the_sdk_waits(receiver, exporter):
    """On any other thread, export returns when the backend has it."""
    exporter.export(spans("a"))
    assert ["a"] == receiver.span_names()


def test_one_helper_serves_while_it_lives(receiver, channel, exporter):
    """It is started by the first export, and once."""
    assert channel.helper_pid is None
    exporter.export(spans("a"))
    first = channel.helper_pid
    exporter.export(spans("b"))
    assert (first, ["a", "b"]) == (channel.helper_pid, receiver.span_names())


@pytest.mark.filterwarnings("ignore")
def test_killed_in_the_middle_of_a_request(receiver, channel, exporter, no_back_off):
    """What it had not begun arrives once; only the request in flight can arrive twice."""
    receiver.answering.clear()
    hand_over(exporter, "in flight")
    receiver.wait(1, answered=False)
    hand_over(exporter, "waiting")
    kill(channel)
    receiver.answering.set()
    assert exporter.force_flush()
    assert Counter({"in flight": 2, "waiting": 1}) == Counter(receiver.span_names())
    assert {} == channel.dropped


def test_killed_while_idle(receiver, channel, exporter, no_back_off):
    """The next export starts another one, and nothing is sent twice."""
    exporter.export(spans("a"))
    kill(channel)
    exporter.export(spans("b"))
    assert ["a", "b"] == receiver.span_names()


def test_restarts_back_off(receiver, monkeypatch):
    """A helper that keeps dying is started at growing intervals."""
    now = [0.0]
    channel = Channel(os.environ, clock=lambda: now[0])
    starts = []
    monkeypatch.setattr(channel, "_start", lambda: starts.append(now[0]))
    channel._was_ready = True
    for _ in range(2):
        channel._ready = True
        channel._lost("it ended")
    batch = channel.open(wire.TRACES)
    channel.add(batch, b"x", 1, last=True)
    now[0] = 0.9
    channel.wait(0.0)
    assert [] == starts
    now[0] = 1.0
    channel.wait(0.0)
    assert [1.0] == starts


def test_a_batch_that_ends_its_helpers_is_dropped(receiver, channel, exporter, no_back_off):
    """After three of them it is counted as lost, and the others go on."""
    receiver.answering.clear()
    hand_over(exporter, "poison")
    for requests in (1, 2, 3):
        receiver.wait(requests, answered=False)
        kill(channel)
        exporter.force_flush(0)  # notices, and starts the next one
    assert {("traces", "helper"): 1} == channel.dropped
    receiver.answering.set()
    exporter.export(spans("b"))
    assert "b" == receiver.span_names()[-1]


def test_backend_down_is_bounded(receiver, channel, exporter, monkeypatch):
    """What is over the limit is dropped and counted; what was taken arrives later."""
    monkeypatch.setattr(channel_module, "BACKLOG", 1000)
    receiver.answering.clear()
    for name in "abcdefgh":
        hand_over(exporter, name)
    batches, size = channel.backlog
    assert {("traces", "backlog"): 8 - batches} == channel.dropped
    assert size <= 1000
    receiver.answering.set()
    assert exporter.force_flush()
    assert list("abcdefgh"[:batches]) == receiver.span_names()


def test_the_official_retry(receiver, exporter):
    """A backend that is unavailable for a moment gets the batch later."""
    receiver.status = 503
    hand_over(exporter, "a")
    receiver.wait(1, answered=False)
    receiver.status = 200
    assert exporter.force_flush()
    assert ["a"] == receiver.span_names()


def test_what_the_backend_refuses_is_counted(receiver, channel, exporter):
    """As the official exporter decides: no retry for a bad request."""
    receiver.status = 400
    assert "FAILURE" == exporter.export(spans("a", "b")).name
    assert {("traces", "export"): 2} == channel.dropped


def test_the_timeout_of_a_flush_is_true(receiver, exporter):
    """It ends unanswered, and a later one finds the answer."""
    receiver.answering.clear()
    hand_over(exporter, "a")
    receiver.wait(1, answered=False)
    assert not exporter.force_flush(20)
    receiver.answering.set()
    assert exporter.force_flush()


def test_the_timeout_of_a_shutdown_is_true(receiver, channel, exporter):
    """What could not be exported in time is counted, and the helper is gone."""
    receiver.answering.clear()
    hand_over(exporter, "a")
    receiver.wait(1, answered=False)
    pid = channel.helper_pid
    exporter.shutdown(20)
    assert {("traces", "shutdown"): 1} == channel.dropped
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert "FAILURE" == exporter.export(spans("late")).name


def test_shutdown_ends_the_helper(receiver, channel, exporter):
    """After everything arrived; there is no process left."""
    hand_over(exporter, "a")
    exporter.shutdown()
    assert (["a"], None) == (receiver.span_names(), channel.helper_pid)


def test_a_helper_that_takes_nothing_delays_nobody_for_ever(receiver, channel, exporter):
    """One that is stopped keeps what it has; the processor's thread goes on."""
    exporter.export(spans("a"))
    os.kill(channel.helper_pid, signal.SIGSTOP)
    hand_over(exporter, "b")
    assert ["a"] == receiver.span_names()
    os.kill(channel.helper_pid, signal.SIGCONT)
    assert exporter.force_flush()
    assert ["a", "b"] == receiver.span_names()


def test_the_helper_has_no_secrets_on_its_command_line_and_no_torch(
    receiver, channel, exporter, monkeypatch
):
    """Headers reach it by its environment; its address space has no torch."""
    channel.variables["OTEL_EXPORTER_OTLP_HEADERS"] = "authorization=secret"
    exporter.export(spans("a"))
    directory = Path("/proc") / str(channel.helper_pid)
    assert "secret" == receiver.headers[0]["authorization"]
    assert "secret" not in (directory / "cmdline").read_text()
    assert "torch" not in (directory / "maps").read_text()


def test_gzip_and_the_other_variables_are_the_official_exporters(receiver, channel, exporter):
    """For example compression."""
    channel.variables["OTEL_EXPORTER_OTLP_COMPRESSION"] = "gzip"
    exporter.export(spans("a"))
    assert ("gzip", ["a"]) == (receiver.headers[0]["content-encoding"], receiver.span_names())


def test_a_frame_that_is_too_long_is_not_read():
    """The length is checked before anything of it is."""
    with pytest.raises(wire.WireError):
        wire.parse(wire.HEADER.pack(wire.MAX_PAYLOAD + 1, wire.TRACES, 1))


def test_a_helper_that_reads_nonsense_ends(receiver):
    """It does not guess."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        helper = spawn.Process()
        helper.start(theirs, os.environ)
        theirs.close()
        setup = {
            "path": sys.path,
            "parent": os.getpid(),
            "linger_s": 5.0,
            "signals": ["traces"],
            "target": "otlp",
        }
        ours.sendall(wire.frame(wire.SETUP, 0, wire.dumps(setup)))
        header = wire.read_exactly(ours, wire.HEADER.size)
        assert (0, wire.READY, 0) == wire.parse(header)
        ours.sendall(b"\xff" * wire.HEADER.size)
        assert helper.wait(30)


BROKEN = {
    "frozen": lambda patch, tmp: patch.setattr(sys, "frozen", True, raising=False),
    "embedded": lambda patch, tmp: patch.setattr(sys, "executable", "/usr/bin/uwsgi"),
    "unknown": lambda patch, tmp: patch.setattr(sys, "executable", None),
    "missing": lambda patch, tmp: patch.setattr(sys, "executable", str(tmp / "python")),
    "silent": lambda patch, tmp: patch.setattr(channel_module, "START_S", -1.0),
    "ends at once": lambda patch, tmp: patch.setattr(spawn, "_BOOTSTRAP", "pass"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_without_a_helper_the_sdks_exporter_serves(
    receiver, channel, monkeypatch, tmp_path, caplog, reason
):
    """In this process, with one warning; nothing is lost."""
    BROKEN[reason](monkeypatch, tmp_path)
    exporter = WarpspanSpanExporter(channel)
    hand_over(exporter, "a")
    exporter.force_flush()
    exporter.export(spans("b"))
    exporter.shutdown()
    assert ["a", "b"] == receiver.span_names()
    warnings = [record.message for record in caplog.records if record.name == "warpspan"]
    assert 1 == len(warnings)
    assert "OpenTelemetry's own exporter is used in this process instead" in warnings[0]


def test_no_memory_for_a_helper(receiver, channel, monkeypatch, caplog):
    """The system refuses to start a process."""

    def refuse(*_):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(spawn.Process, "start", refuse)
    exporter = WarpspanSpanExporter(channel)
    hand_over(exporter, "a")
    exporter.shutdown()
    assert ["a"] == receiver.span_names()
    assert "Cannot allocate memory" in caplog.text


def test_wrong_settings_are_the_official_exporters_to_tell(receiver, monkeypatch, caplog):
    """The helper refuses with its sentence; so does the exporter in the process, as without us."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "middling")
    exporter = WarpspanSpanExporter(Channel(os.environ))
    assert "FAILURE" == exporter.export(spans("a")).name
    exporter.shutdown()
    guard.forget()
    first = 'no export helper can be started (Invalid value "middling" for compression'
    assert [True, True] == [
        first in caplog.records[0].message,
        "InvalidCompressionValueException" in caplog.records[1].message,
    ]
