"""`warpspan profile` with real programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from warpspan.cli.app import app
from warpspan.deep.kineto_source import sees_all_threads

WARPSPAN = [sys.executable, "-c", "from warpspan.cli import main; main()"]
MODEL = """
import sys
import torch

torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU()).eval()
with torch.inference_mode():
    for _ in range(4):
        model(torch.rand(2, 8))
print("out", *sys.argv[1:])
sys.exit(3)
"""
SERVES = """
import time
import warpspan
warpspan.WarpspanInstrumentor().instrument()
import torch

model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU()).eval()
print("ready", flush=True)
with torch.inference_mode():
    while True:
        model(torch.rand(2, 8))
        time.sleep(0.001)
"""
needs_threads = pytest.mark.skipif(
    not sees_all_threads(), reason="this torch can't see operators of other threads"
)


@needs_threads
def test_the_first_inferences_of_a_program(tmp_path):
    """The report names operators, the spans name the trace, and the program ends as it would."""
    (tmp_path / "app.py").write_text(MODEL)
    done = subprocess.run(
        [*WARPSPAN, "profile", "-n", "2", "-o", "out", "--", sys.executable, "app.py", "x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (3, "out x\n") == (done.returncode, done.stdout), done.stderr
    assert "aten::addmm" in done.stderr
    assert "warpspan report out" in done.stderr
    (trace,) = (tmp_path / "out").glob("*.pt.trace.json.gz")
    profiled = []
    for line in (tmp_path / "out" / "inferences.jsonl").read_text().splitlines():
        for block in json.loads(line).get("resourceSpans", ()):
            for scope in block["scopeSpans"]:
                profiled += [
                    [
                        attribute["value"]["stringValue"]
                        for attribute in span["attributes"]
                        if attribute["key"] == "pytorch.profile.trace"
                    ]
                    for span in scope["spans"]
                ]
    assert [[str(trace)], [str(trace)], [], []] == profiled


@needs_threads
def test_the_next_inferences_of_a_process(tmp_path):
    """With `--pid` a running process is asked by its signal, and goes on."""
    environ = {
        **os.environ,
        "OTEL_PYTHON_WARPSPAN_DEEP_SIGNAL": "SIGUSR2",
        "OTEL_PYTHON_WARPSPAN_DEEP_DIRECTORY": "traces",
    }
    with subprocess.Popen(
        [sys.executable, "-c", SERVES],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as served:
        try:
            assert "ready\n" == served.stdout.readline()
            done = CliRunner().invoke(app, ["profile", "--pid", str(served.pid)])
            assert served.poll() is None
        finally:
            served.send_signal(signal.SIGKILL)
    assert 0 == done.exit_code, done.output
    assert "aten::addmm" in done.output


def said(*arguments):
    """Exit code and output of a call that profiles nothing."""
    done = CliRunner().invoke(app, ["profile", *arguments])
    return done.exit_code, done.output.strip()


def test_a_process_that_was_not_prepared_is_left_alone():
    """The signal would end it: the sentence says how to start it."""
    assert (
        2,
        f"warpspan: process {os.getpid()} can't be asked for a capture: start it with "
        "OTEL_PYTHON_WARPSPAN_DEEP_SIGNAL=SIGUSR2 and OTEL_PYTHON_WARPSPAN_DEEP_DIRECTORY set to "
        "a directory",
    ) == said("--pid", str(os.getpid()))


def test_a_process_without_the_handler_is_left_alone(tmp_path):
    """It has the variables and no handler yet: the signal is not sent."""
    environ = {
        "OTEL_PYTHON_WARPSPAN_DEEP_SIGNAL": "SIGUSR2",
        "OTEL_PYTHON_WARPSPAN_DEEP_DIRECTORY": str(tmp_path),
    }
    with subprocess.Popen(
        [sys.executable, "-c", "print('ready', flush=True); input()"],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as idle:
        assert "ready\n" == idle.stdout.readline()
        code, output = said("--pid", str(idle.pid))
        assert idle.poll() is None
        idle.communicate("\n")
    assert (2, True) == (code, "does not handle SIGUSR2, which would end it" in output)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give either a program after -- or --pid"),
        (("--pid", "1", "--", "python"), "give either a program after -- or --pid"),
        (("--", "no-such-program"), "can't run no-such-program: command not found"),
    ],
)
def test_wrong_usage(arguments, sentence):
    """One sentence that says what to do."""
    _, output = said(*arguments)
    assert f"warpspan: {sentence}" == output


def test_a_full_directory_is_not_touched(tmp_path):
    """Traces of two runs are not mixed."""
    (tmp_path / "file").write_text("")
    assert (2, f"warpspan: {tmp_path} is not empty: give -o a new directory") == said(
        "-o", str(tmp_path), "--", sys.executable
    )
