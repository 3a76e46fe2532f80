"""Ctrl-C in any command: one line, and the exit code that shells give."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.interrupt import interrupt_while_it_reads

MAIN = "from warpspan.cli import main; main()"
ENDED = (130, "warpspan: interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "module", "function"),
    [
        ("report x", "warpspan.cli.report", "report"),
        ("top", "warpspan.cli.top", "top"),
        ("doctor", "warpspan.cli.doctor", "doctor"),
        ("run true", "warpspan.cli.run", "run"),
        ("bench fused", "warpspan.kernels.bench.fused_cli", "_torch"),
        ("bench model", "warpspan.kernels.bench.fused_cli", "_torch"),
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


def test_a_report_of_a_file_that_does_not_end(tmp_path):
    """The same for a real command that a real signal meets."""
    fifo = tmp_path / "file"
    assert ENDED == interrupt_while_it_reads(fifo, sys.executable, "-c", MAIN, "report", fifo)
