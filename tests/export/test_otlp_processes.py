"""The exporter `warpspan_otlp` in whole programs: how they begin, fork and end."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

PROGRAM = """
import os, signal, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from tests.support.waiting import wait_until
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
    channel = exporter._handover._channel
    wait_until(lambda: channel.backlog[0] and not channel._out)
    return helper_pid()
"""


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


def test_one_variable_goes_back_to_the_sdks_exporter(receiver, monkeypatch):
    """In the process, without a helper and without a warning."""
    monkeypatch.setenv("OTEL_PYTHON_WARPSPAN_EXPORT_HELPER", "false")
    status, output, errors = run(
        'span("a"); provider.force_flush(); tell(exporter._handover._channel)'
    )
    assert (0, "None\n", "", ["a"]) == (status, output, errors, receiver.span_names())


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
