"""`warpspan top`: one snapshot as text and for programs, and the live screen with its keys."""

from __future__ import annotations

import json
import os
import pty
import sys
import threading

import pytest
from rich.console import Console

from warpspan.cli import top
from warpspan.cli.top_state import View
from warpspan.device import discovery, driver
from warpspan.emit import status

TOLD = {
    "pid": os.getpid(),
    "service": "shop",
    "unix_time": 100.0,
    "since": 90.0,
    "devices": [],
    "inferences": [
        {
            "operation": "generate",
            "model": "Llama",
            "device": "cpu",
            "inferences": 20,
            "failed": 0,
            "tokens": 640,
            "sums": {"cpu_s": [2.0, 20]},
            "durations_s": [0.1, 0.2],
        }
    ],
}


@pytest.fixture
def without_gpu(monkeypatch):
    """A machine without a GPU, on which one process tells."""
    monkeypatch.setattr(discovery, "open_driver", lambda: driver.NoDriver(driver.LIBRARY_MISSING))
    monkeypatch.setattr(status, "watch", lambda environ: True)
    monkeypatch.setattr(status, "read", lambda environ: [TOLD])
    monkeypatch.setattr(top.time, "sleep", lambda seconds: None)
    monkeypatch.setattr("warpspan.cli.top_snapshot.time.time", lambda: 100.5)


def test_once_without_a_gpu(without_gpu, capsys):
    """The reason, and what the processes tell."""
    top.top(as_json=False, once=True)
    text = capsys.readouterr().out
    assert "no GPU: libnvidia-ml.so.1 was not found: install the NVIDIA driver" in text
    (line,) = [line for line in text.splitlines() if "shop" in line]
    for value in ("generate Llama", "2.00", "100 ms", "200 ms", "64.0", "cpu", str(os.getpid())):
        assert value in line


def test_once_as_json(without_gpu, capsys):
    """One object."""
    top.top(as_json=True, once=True)
    snapshot = json.loads(capsys.readouterr().out)
    assert ([], [], 2.0, 64.0) == (
        snapshot["devices"],
        snapshot["processes"],
        snapshot["inferences"][0]["inferences_per_s"],
        snapshot["inferences"][0]["tokens_per_s"],
    )


def test_nobody_tells(without_gpu, monkeypatch, capsys):
    """It says how to start a program that does."""
    monkeypatch.setattr(status, "read", lambda environ: [])
    top.top(as_json=False, once=True)
    assert "No instrumented process of yours is reporting inferences." in capsys.readouterr().out


def drain(leader, shown):
    """Take what comes from a terminal until it is closed."""
    try:
        while data := os.read(leader, 1 << 16):
            shown.append(data)
    except OSError:  # the other end is closed
        pass


def test_live_until_q(without_gpu, monkeypatch):
    """Keys change the view; the terminal is given back as it was."""
    termios = pytest.importorskip("termios")
    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    os.write(leader, b"s/shoq\x7fp\rfq")
    shown, views = [], []
    reader = threading.Thread(target=drain, args=(leader, shown))
    with os.fdopen(os.dup(follower)) as keyboard, os.fdopen(follower, "w") as terminal:
        console = Console(file=terminal, force_terminal=True, width=80, height=24)
        monkeypatch.setattr(sys, "stdin", keyboard)
        monkeypatch.setattr(top, "output_console", lambda stderr: console)
        monkeypatch.setattr(top, "View", lambda: views.append(View()) or views[0])
        reader.start()
        top.top(as_json=False, once=False)
        assert before == termios.tcgetattr(keyboard)
        monkeypatch.undo()
    reader.join(30)
    os.close(leader)
    assert "generate" in b"".join(shown).decode()
    (view,) = views
    assert ("shop", 1, False, False) == (view.filter, view.order, view.folded, view.typing)
