"""The exporters `warpspan_otlp` in whole programs: how they begin, fork and end."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from warpspan.export import otlp
from warpspan.export.otlp import WarpspanMetricExporter, WarpspanSpanExporter
from warpspan.export.otlp_logs import WarpspanLogExporter
from warpspan.testing.otlp import http_receiver

PROGRAM = """
import os, signal, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from warpspan.export import channel, otlp

exporter = otlp.WarpspanSpanExporter()
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1))
tracer = provider.get_tracer("test")


def span(name):
    tracer.start_span(name).end()


def tell(*what):
    print(*what, flush=True)


def helper_pid():
    return exporter._handover._channel.helper_pid


def handed_over():
    while exporter._handover._channel.backlog[0] == 0 or exporter._handover._channel._out:
        pass
    return helper_pid()
"""


@pytest.fixture
def receiver(monkeypatch):
    with http_receiver() as made:
        for name, value in made.environ.items():
            monkeypatch.setenv(name, value)
        yield made


def start(body, *command, before="", **options):
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONWARNINGS": "ignore:This process:DeprecationWarning",  # forks beside threads
    }
    return subprocess.Popen(
        [*command, sys.executable, "-c", before + PROGRAM + body],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(body, *command, before=""):
    program = start(body, *command, before=before)
    output, errors = program.communicate(timeout=300)
    return program.returncode, output, errors


def wait_for_end(pid, timeout_s=120):
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


def test_entry_points():
    """They are found by the name that OTEL_TRACES_EXPORTER and the others take."""
    found = {
        group: entry_points(group=f"opentelemetry_{group}_exporter", name="warpspan_otlp")
        for group in ("traces", "metrics", "logs")
    }
    assert {
        "traces": [WarpspanSpanExporter],
        "metrics": [WarpspanMetricExporter],
        "logs": [WarpspanLogExporter],
    } == {group: [one.load() for one in some] for group, some in found.items()}


def test_all_signals_of_the_sdk_share_one_helper(receiver):
    """Spans, metrics and logs of real providers; the helper ends with the last of them."""
    exporters = WarpspanSpanExporter(), WarpspanMetricExporter(), WarpspanLogExporter()
    channel = otlp.shared_channel()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(exporters[0]))
    meters = MeterProvider([PeriodicExportingMetricReader(exporters[1])], shutdown_on_exit=False)
    loggers = LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(BatchLogRecordProcessor(exporters[2]))
    tracers.get_tracer("test").start_span("a").end()
    meters.get_meter("test").create_counter("b").add(1)
    loggers.get_logger("test").emit(body="c")
    assert [True] * 3 == [one.force_flush() for one in (tracers, meters, loggers)]
    assert {"traces", "metrics", "logs"} == {kind for kind, _ in receiver.requests}
    pid = channel.helper_pid
    tracers.shutdown()
    meters.shutdown()
    assert pid == channel.helper_pid
    loggers.shutdown()
    assert channel.helper_pid is None
    assert channel is not otlp.shared_channel()


def test_its_own_losses_are_metrics(receiver):
    """Dropped items by signal and reason, and what waits."""
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from warpspan.export import observe

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    observe._created = False
    observe._channels.clear()
    import unittest.mock

    with unittest.mock.patch.object(observe, "get_meter", provider.get_meter):
        exporter = WarpspanSpanExporter()
    assert reader.get_metrics_data() is None  # a program that exports nothing says nothing
    exporter.export([])
    otlp.shared_channel().dropped["traces", "backlog"] = 3
    otlp.shared_channel().sliced(2_000_000)
    found = {
        metric.name: [(point.value, dict(point.attributes)) for point in metric.data.data_points]
        for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    }
    labels = {"warpspan.signal": "traces", "warpspan.drop.reason": "backlog"}
    assert {
        "warpspan.export.dropped": [(3, labels)],
        "warpspan.export.backlog": [(0, {})],
        "warpspan.export.slice.max": [(0.002, {})],
    } == found
    exporter.shutdown()


def test_one_variable_goes_back_to_the_sdks_exporter(receiver, monkeypatch):
    """In the process, without a helper and without a warning."""
    monkeypatch.setenv("OTEL_PYTHON_WARPSPAN_EXPORT_HELPER", "false")
    status, output, errors = run(
        'span("a"); provider.force_flush(); tell(exporter._handover._channel)'
    )
    assert (0, "None\n", "", ["a"]) == (status, output, errors, receiver.span_names())


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier/pigeon"},
            "OTEL_EXPORTER_OTLP_PROTOCOL='carrier/pigeon' is not supported: "
            "give grpc or http/protobuf",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "pigeon"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL='pigeon' is not supported: "
            "give grpc or http/protobuf",
        ),
    ],
)
def test_an_unknown_protocol(receiver, monkeypatch, variables, sentence):
    """It is refused when the exporter is made, in one sentence."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError) as refused:
        WarpspanSpanExporter()
    assert sentence == str(refused.value)


def test_a_protocol_that_is_not_installed(monkeypatch):
    """The sentence has the command."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError) as refused:
        WarpspanSpanExporter()
    assert (
        "the exporter warpspan_otlp needs opentelemetry.exporter.otlp.proto.grpc: "
        "pip install opentelemetry-exporter-otlp-proto-grpc"
    ) == str(refused.value)


def test_the_end_of_the_interpreter(receiver):
    """The SDK's exit handler is enough: all arrives, and no process is left."""
    status, output, _ = run("""
for number in range(600):
    span(str(number))
import atexit
atexit.register(lambda: tell(helper_pid()))  # runs before the provider's
provider.force_flush()
""")
    assert (0, 600) == (status, len(receiver.span_names()))
    with pytest.raises(ProcessLookupError):
        os.kill(int(output), 0)


def test_short_processes(receiver):
    """One after the other, each with one span: each arrives, none leaves a helper."""
    for number in range(5):
        status, _, errors = run(f'span("{number}")')
        assert (0, "") == (status, errors)
    assert list("01234") == receiver.span_names()


def test_the_parent_is_killed(receiver):
    """What it had handed over arrives, and the helper leaves."""
    receiver.answering.clear()
    program = start('span("a"); tell(handed_over()); signal.pause()')
    pid = int(program.stdout.readline())
    receiver.wait(1, answered=False)
    program.kill()
    program.wait()
    receiver.answering.set()
    program.communicate()
    assert wait_for_end(pid)
    assert ["a"] == receiver.span_names()


def test_the_parent_is_killed_while_the_backend_hangs(receiver):
    """The helper leaves all the same, within its limit."""
    receiver.answering.clear()
    program = start('channel.LINGER_S = 0.05\nspan("a"); tell(handed_over()); signal.pause()')
    pid = int(program.stdout.readline())
    receiver.wait(1, answered=False)
    program.kill()
    program.communicate()
    assert wait_for_end(pid)


def test_the_parent_is_killed_while_a_fork_holds_the_channel(receiver):
    """A fork without Python in it keeps the channel open; the helper asks for its parent."""
    program = start("""
span("a")
provider.force_flush()
tell(helper_pid())
import ctypes
child = ctypes.CDLL(None).fork()
if child == 0:
    ctypes.CDLL(None).pause()
tell(child)
signal.pause()
""")
    pid, child = int(program.stdout.readline()), int(program.stdout.readline())
    program.kill()
    program.wait()
    try:
        assert wait_for_end(pid)
    finally:
        os.kill(child, signal.SIGKILL)
    program.communicate()


def test_terminate(receiver):
    """SIGTERM to the whole process group ends the program, not what it had handed over."""
    receiver.answering.clear()
    program = start('span("a"); tell(handed_over()); signal.pause()', start_new_session=True)
    pid = int(program.stdout.readline())
    os.killpg(program.pid, signal.SIGTERM)
    assert -signal.SIGTERM == program.wait()
    receiver.answering.set()
    program.communicate()
    assert wait_for_end(pid)
    assert ["a"] == receiver.span_names()


def test_an_interrupt_is_the_programs_own(receiver):
    """Ctrl-C reaches the helper too, which goes on."""
    program = start(
        """
span("a")
provider.force_flush()
try:
    tell(helper_pid())
    signal.pause()
except KeyboardInterrupt:
    span("b")
    provider.force_flush()
    tell(helper_pid())
""",
        start_new_session=True,
    )
    first = program.stdout.readline()
    os.killpg(program.pid, signal.SIGINT)
    second, errors = program.communicate()
    assert (first, "", ["a", "b"]) == (second, errors, receiver.span_names())


def test_each_fork_has_its_own_helper(receiver):
    """Lazily: a child that exports nothing has none, and the parent's goes on."""
    status, output, errors = run("""
span("parent")
provider.force_flush()
tell(helper_pid())
for name in ("silent", "child"):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        if name == "child":
            span("child")
            provider.force_flush()
        tell(helper_pid())
        provider.shutdown()
        os._exit(0)
    os.waitpid(child, 0)
span("parent again")
provider.force_flush()
tell(helper_pid())
""")
    assert (0, "") == (status, errors)
    first, silent, child, again = output.split()
    assert (first, "None") == (again, silent)
    assert child not in (first, "None")
    assert ["parent", "child", "parent again"] == receiver.span_names()


def test_a_fork_in_the_middle_of_an_export(receiver):
    """A lock that another thread of the parent held is no lock in the child."""
    status, _, errors = run("""
with exporter._handover._channel._lock:
    child = os.fork()
if child == 0:
    span("child")
    provider.shutdown()
    os._exit(0)
os.waitpid(child, 0)
""")
    assert (0, "", ["child"]) == (status, errors, receiver.span_names())


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "mount", "-o", "remount,bind,ro", "/"],
        capture_output=True,
    ).returncode
    != 0,
    reason="no unprivileged mount namespaces here",
)
def test_a_read_only_file_system(receiver):
    """Nothing is written anywhere."""
    shell = 'mount -o remount,bind,ro / && exec "$@"'
    status, output, errors = run(
        """
try:
    open("probe", "w")
except OSError as error:
    tell(error.errno)
span("a")
provider.shutdown()
""",
        *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell, "sh"),
    )
    assert (0, "30\n", "", ["a"]) == (status, output, errors, receiver.span_names())


SECCOMP = """
import ctypes, platform, struct
# Load the number of the system call; execve (59) and execveat (322): EPERM; all others: allow.
program = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in [
        (0x20, 0, 0, 0),
        (0x15, 2, 0, 59),
        (0x15, 1, 0, 322),
        (0x06, 0, 0, 0x7FFF0000),
        (0x06, 0, 0, 0x00050001),
    ]
)
code = ctypes.create_string_buffer(program)
filter = struct.pack("HxxxxxxP", 5, ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_char_p(filter), 0, 0) == 0
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the filter has x86-64's numbers")
def test_a_sandbox_that_refuses_processes(receiver):
    """A seccomp filter: the SDK's exporter serves, with one warning."""
    status, _, errors = run('span("a")\nprovider.shutdown()', before=SECCOMP)
    assert (0, ["a"], 1) == (status, receiver.span_names(), len(errors.splitlines()))
    assert "PermissionError" in errors


def test_the_files_of_a_helper(receiver, tmp_path):
    """It holds its channel, and standard input is not it: nothing that it starts could read it."""
    status, output, _ = run("""
span("a")
provider.force_flush()
import json
directory = f"/proc/{helper_pid()}/fd"
tell(json.dumps(os.readlink(f"{directory}/0")))
""")
    assert (0, "/dev/null") == (status, json.loads(output))
    assert Path("/dev/null").exists()
