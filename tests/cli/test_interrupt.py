"""Ctrl-C in any command: one line, and the exit code that shells give."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

MAIN = "from warpspan.cli import main; main()"
ENDED = (130, "warpspan: interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "module", "function"),
    [
        ("report x", "warpspan.cli.report", "report"),
        ("top", "warpspan.cli.top", "top"),
        ("doctor", "warpspan.cli.doctor", "doctor"),
        ("run true", "warpspan.cli.run", "run"),
        ("bench fused", "warpspan.bench.fused_cli", "_torch"),
        ("bench model", "warpspan.bench.fused_cli", "_torch"),
        ("bench overhead", "warpspan.bench.overhead", "main"),
        ("bench stalls", "warpspan.bench.stalls", "main"),
        ("--version", "warpspan.cli.app", "app"),
    ],
)
def test_a_command_that_is_interrupted(arguments, module, function):
    """Wherever it is, nothing but that one line comes out."""
    program = (
        f"import signal, {module} as module\n"
        f"module.{function} = lambda *_, **__: signal.raise_signal(signal.SIGINT)\n{MAIN}"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments.split()],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (*ENDED, "") == (done.returncode, done.stderr, done.stdout)


def interrupt_while_it_reads(fifo, *command):
    """Start a program in a process group of its own, and press Ctrl-C when it waits for a file."""
    os.mkfifo(fifo)
    started = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with fifo.open("w"):  # which waits for the reader
        os.killpg(started.pid, signal.SIGINT)
        said = started.communicate(timeout=60)[1]
    return started.returncode, said


def test_a_report_of_a_file_that_does_not_end(tmp_path):
    """The same for a real command that a real signal meets."""
    fifo = tmp_path / "file"
    assert ENDED == interrupt_while_it_reads(fifo, sys.executable, "-c", MAIN, "report", fifo)


def test_a_benchmark_with_a_child(tmp_path):
    """The child, which the signal of a terminal reaches as well, says nothing and ends, too."""
    program = """
import sys
from pathlib import Path
from warpspan.bench.overhead import _in_own_process
try:
    _in_own_process(Path.read_text, Path(sys.argv[1]))
except KeyboardInterrupt:
    sys.exit(5)
"""
    fifo = tmp_path / "file"
    assert (5, "") == interrupt_while_it_reads(fifo, sys.executable, "-c", program, fifo)
