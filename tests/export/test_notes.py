"""The processes of a run note how they began and ended."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from warpspan.export import notes
from warpspan.export.notes import Processes

PROGRAM = """
import os, sys, types
from warpspan.export import notes
notes.take_part(sys.argv[1])
notes.take_part(sys.argv[1])
"""
ENDS = {
    "as usual": ("", Processes(1, 1, 0)),
    "with torch": ("sys.modules['torch'] = types.ModuleType('torch')", Processes(1, 1, 1)),
    "at once": ("os._exit(0)", Processes(1, 0, 0)),
    "by a signal": ("os.kill(os.getpid(), 9)", Processes(1, 0, 0)),
    "with a fork": ("os.fork() or sys.exit()", Processes(1, 1, 0)),
    "as another program": (
        "os.execv(sys.executable, [sys.executable, '-c', 'import os; os._exit(0)'])",
        Processes(1, 0, 0),
    ),
}


def run(source: str, file) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", PROGRAM + source, str(file)], env=environ, timeout=120)


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_a_process(tmp_path, end):
    """Only one that ran its exit handlers has ended; a fork is a part of its parent."""
    source, expected = ENDS[end]
    file = tmp_path / "run.jsonl"
    notes.path(str(file)).touch()
    run(source, file)
    assert expected == notes.read(notes.path(str(file)).read_text().splitlines())


def test_nobody_asked(tmp_path):
    """Without the file, which `warpspan run` makes, nothing is written."""
    run("", tmp_path / "run.jsonl")
    assert [] == list(tmp_path.iterdir())
