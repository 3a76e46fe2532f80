"""Runs a program twice, plainly and under `warpspan run`, and reads back what it recorded."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.waiting import wait_until

SCRIPTS = Path(__file__).resolve().parent / "scripts"
# Absolute but not resolved: the link is what makes it the environment's Python.
PYTHON = str(Path(found).absolute()) if (found := os.environ.get("WARPSPAN_PROGRAMS")) else None
TIMEOUT_S = 300

_BATCH, _SEQUENCE = "pytorch.input.batch.size", "pytorch.input.sequence.length"
# A line of ours among the program's, by its form or by a file of ours in a traceback.
_OURS = re.compile(r"warpspan( export)?: |/src/warpspan/|site-packages/warpspan/")
# The summary, which stands behind everything that the program wrote.
_SUMMARY = re.compile(r"^(\d[\d,]* inferences? in |warpspan: no inferences recorded)", re.MULTILINE)


class Span(NamedTuple):
    """A span as a user counts it.

    Args:
        name: its name.
        batch: its batch size, where it has one.
        sequence: its sequence length, where it has one.
        parent: the name of the span around it, where there is one in the file.
    """

    name: str
    batch: int | None = None
    sequence: int | None = None
    parent: str | None = None


class Done(NamedTuple):
    """A program that ended: its output, its exit code, and what it wrote on standard error."""

    output: str
    code: int
    errors: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nothing here runs without the environment that has the programs' packages."""
    here = Path(__file__).parent
    items = [item for item in items if here in item.path.parents]
    if PYTHON is None:
        missing = pytest.mark.skip(reason="WARPSPAN_PROGRAMS names no Python with the programs")
        for item in items:
            item.add_marker(missing)


def run(command: list[str], folder: Path) -> Done:
    """Run a command in a session of its own, and see that nothing of it is left."""
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "YOLO_CONFIG_DIR": str(folder),
    }
    started = subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = started.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, 9)
        output, errors = started.communicate()
        pytest.fail(f"{command} did not end in {TIMEOUT_S} s:\n{output}\n{errors}")
    try:
        wait_until(lambda: not _processes(started.pid))
    except TimeoutError:
        pytest.fail(f"{command} left {_processes(started.pid)}")
    return Done(output, started.returncode, errors)


def spans(file: Path) -> list[Span]:
    """The spans of a file in the order of their starts."""
    found: list[tuple[int, str, str, dict[str, Any]]] = []
    names: dict[str, str] = {}
    for line in file.read_text().splitlines():
        for resource in json.loads(line).get("resourceSpans", ()):
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    attributes = {
                        one["key"]: next(iter(one["value"].values()))
                        for one in span.get("attributes", ())
                    }
                    names[span["spanId"]] = span["name"]
                    start = int(span["startTimeUnixNano"])
                    found.append((start, span["name"], span.get("parentSpanId", ""), attributes))
    found.sort(key=lambda one: one[0])
    return [
        Span(
            name,
            *(int(a[key]) if key in a else None for key in (_BATCH, _SEQUENCE)),
            parent=names.get(parent),
        )
        for _, name, parent, a in found
    ]


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., list[Span]]:
    """Runs a script twice; gives the spans, once everything else is the same.

    With `sdk_errors`, OpenTelemetry's own SDK is known to print errors beside this program.
    """

    def record(script: str, *arguments: str, sdk_errors: bool = False) -> list[Span]:
        assert PYTHON is not None
        command = [PYTHON, str(SCRIPTS / f"{script}.py"), *arguments]
        folders = [tmp_path / "plain", tmp_path / "recorded"]
        for folder in folders:
            folder.mkdir()
        plain = run(command, folders[0])
        file = folders[1] / "run.jsonl"
        ours = run([PYTHON, "-m", "warpspan", "run", "-o", str(file), "--", *command], folders[1])
        assert (plain.code, plain.output) == (ours.code, ours.output), plain.errors + ours.errors
        assert 0 == plain.code, plain.errors
        before = _SUMMARY.split(ours.errors, maxsplit=1)[0]
        assert [] == [line for line in before.splitlines() if _OURS.search(line)], before
        if not sdk_errors:
            assert plain.errors.count("Traceback") == before.count("Traceback"), before
        return spans(file)

    return record


def _processes(session: int) -> list[str]:
    """The commands of a session that still run."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(") ")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found
