"""The program under `warpspan run` can't tell it from a shell."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

from warpspan.cli import process
from warpspan.cli.process import CannotRunError

RUNNER = """
import os, sys
from warpspan.cli import process
command = sys.argv[1:]
process.exit_like(process.run(process.find(command[0], os.environ["PATH"]), command, os.environ))
"""
# Makes the terminal on standard input the controlling one, as a login does.
ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
COUNTER = """
import collections, signal, sys
seen = collections.Counter()
def note(number, frame):
    seen[signal.Signals(number).name] += 1
    if number == signal.SIGUSR1:
        print(sorted(seen.items()), flush=True)
        sys.exit(7)
    print(signal.Signals(number).name, flush=True)
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1,
               signal.SIGUSR2):
    signal.signal(number, note)
print("ready", flush=True)
while True:
    signal.pause()
"""


def start(*command: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, *command], stdout=subprocess.PIPE, text=True, **options
    )


def run(*command: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUNNER, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **options,
    )


def test_input_output_and_exit_code():
    """The program reads, writes and exits as if nobody watched."""
    done = run("sh", "-c", "cat; echo problem >&2; exit 3", input="words\n")
    assert ("words\n", "problem\n", 3) == (done.stdout, done.stderr, done.returncode)


def test_arguments():
    """Arguments arrive untouched, the program's own name included."""
    done = run("sh", "-c", 'echo "$0:$1:$2"', "name", "-o", "--")
    assert "name:-o:--\n" == done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_signal(number):
    """A program that a signal ends takes its parent with it, so that the shell sees the signal."""
    done = run("sh", "-c", f"kill -{number.value} $$")
    assert -number == done.returncode


@pytest.mark.parametrize(
    "number",
    [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR2],
)
def test_signals_are_passed_on(number):
    """A signal sent to `warpspan run` alone reaches the program, once."""
    with start(sys.executable, "-c", COUNTER) as runner:
        assert "ready\n" == runner.stdout.readline()
        runner.send_signal(number)
        assert f"{number.name}\n" == runner.stdout.readline()
        runner.send_signal(signal.SIGUSR1)
        seen = dict.fromkeys((number.name, "SIGUSR1"), 1)
        assert f"{sorted(seen.items())}\n" == runner.stdout.readline()
        assert 7 == runner.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who sent a signal")
def test_ctrl_c_arrives_once():
    """The terminal's Ctrl-C reaches the program directly, and is not passed on again."""
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, "-c", RUNNER, sys.executable, "-c", COUNTER],
        stdin=terminal,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as runner:
        assert "ready\n" == runner.stdout.readline()
        os.write(controller, b"\x03")
        assert "SIGINT\n" == runner.stdout.readline()
        # The parent got its own SIGINT by then and takes the lower number first: after this one,
        # no second SIGINT can come.
        runner.send_signal(signal.SIGUSR1)
        assert "[('SIGINT', 1), ('SIGUSR1', 1)]\n" == runner.stdout.readline()
        assert 7 == runner.wait()
    os.close(controller)
    os.close(terminal)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_signal_state_of_the_program():
    """The program starts without blocked signals and without those that Python ignores."""
    # Not of a shell: it blocks signals while it starts what then reads its state.
    done = run("grep", "-E", "SigBlk|SigIgn", "/proc/self/status")
    blocked, ignored = (int(line.split()[1], 16) for line in done.stdout.splitlines())
    assert 0 == blocked
    assert 0 == ignored & (1 << signal.SIGPIPE - 1)


def test_ignored_signals_stay_ignored():
    """What nohup had ignored stays ignored, in the parent and in the program."""
    shell = (
        f"trap '' HUP; exec {sys.executable} -c '{RUNNER}' sh -c 'kill -HUP $PPID $$; echo alive'"
    )
    done = subprocess.run(
        ["sh", "-c", shell], capture_output=True, text=True, check=False, timeout=300
    )
    assert ("alive\n", 0) == (done.stdout, done.returncode)


def test_open_files_are_inherited():
    """Descriptors that the caller passes on reach the program."""
    reader, writer = os.pipe()
    done = run(sys.executable, "-c", f"import os; os.write({writer}, b'passed')", pass_fds=[writer])
    os.close(writer)
    assert (0, b"passed") == (done.returncode, os.read(reader, 100))
    os.close(reader)


def test_find(tmp_path):
    """A command is looked for as the shell does: on the path, or where it says."""
    program = tmp_path / "serve"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert str(program) == process.find("serve", f"/nowhere:{tmp_path}")
    assert str(program) == process.find(str(program), "/nowhere")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("missing", 127, "can't run missing: command not found"),
        ("{}/missing", 127, "can't run {}/missing: command not found"),
        ("plain", 126, "can't run {}/plain: it is not executable"),
        ("{}/plain", 126, "can't run {}/plain: it is not executable"),
        ("{}", 126, "can't run {}: it is a directory"),
        (
            "app.py",
            127,
            "can't run app.py: command not found (a script of Python: warpspan run -- python "
            "app.py)",
        ),
    ],
)
def test_not_found(tmp_path, command, code, message):
    """What can't be run is told in a sentence, with the exit code of a shell."""
    (tmp_path / "plain").write_text("")
    with pytest.raises(CannotRunError) as caught:
        process.find(command.format(tmp_path), f"/nowhere:{tmp_path}")
    assert (message.format(tmp_path), code) == (str(caught.value), caught.value.code)


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("#!/no/such/thing\n", 127, "the interpreter in its first line does not exist"),
        ("no program", 126, "exec format error"),
    ],
)
def test_not_startable(tmp_path, content, code, message):
    """A file that looks executable and is not, likewise."""
    program = tmp_path / "serve"
    program.write_text(content)
    program.chmod(0o755)
    with pytest.raises(CannotRunError) as caught:
        process.run(str(program), [str(program)], {})
    assert (f"can't run {program}: {message}", code) == (str(caught.value), caught.value.code)
