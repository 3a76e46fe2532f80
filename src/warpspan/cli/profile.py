"""`warpspan profile`: the first inferences of a program, or the next ones of a process, in detail."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from warpspan import config
from warpspan.cli import process
from warpspan.cli.environment import environment, reasons
from warpspan.cli.process import CannotRunError
from warpspan.cli.report import output_console
from warpspan.cli.report_traces import open_traces, print_traces
from warpspan.cli.run import check_installed, other_python, ourselves, say
from warpspan.sources.traces import TraceError

_SPANS = "inferences.jsonl"
_PREFIX = "OTEL_PYTHON_WARPSPAN_DEEP"
# A capture takes ten seconds at most, and its trace a few more.
_WAIT_S = 30.0
_LOOK_S = 0.1


class CannotProfileError(Exception):
    """There is nothing to show. `code` is the exit code: 1 nothing recorded, 2 wrong usage."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def run(command: Sequence[str], output: Path | None, inferences: int) -> NoReturn:
    """Run a command, print the report of its first inferences, end as it ended.

    Args:
        command: the program and its arguments.
        output: directory for spans and traces.
        inferences: how many are recorded in detail.

    Raises:
        CannotRunError: with a sentence that says why it was not started.
    """
    process.check_system()
    check_installed()
    program = process.find(command[0], config.environment().get("PATH", os.defpath))
    folder = _default_folder() if output is None else output
    _claim(folder)
    environ = environment(config.environment(), command, folder / _SPANS, explicit=True)
    environ |= {
        _PREFIX: f"{inferences}/run",
        f"{_PREFIX}_DIRECTORY": str(folder.absolute()),
        f"{_PREFIX}_OPERATORS": "true",
    }
    status = process.run(program, command, environ)
    # Nothing that goes wrong here may change how it ended.
    with contextlib.suppress(KeyboardInterrupt, OSError):
        try:
            _show(folder, program)
        except Exception as error:
            say(f"warpspan: can't summarize {folder}: {error}")
    process.exit_like(status)


def attach(pid: int) -> None:
    """Ask a process that runs under warpspan for a capture, and print its report.

    Raises:
        CannotProfileError: with a sentence that says why there is none.
    """
    environ = _environment_of(pid)
    name, folder = environ.get(f"{_PREFIX}_SIGNAL"), environ.get(f"{_PREFIX}_DIRECTORY")
    if name not in ("SIGUSR1", "SIGUSR2") or not folder:
        raise CannotProfileError(
            f"process {pid} can't be asked for a capture: start it with {_PREFIX}_SIGNAL=SIGUSR2 "
            f"and {_PREFIX}_DIRECTORY set to a directory",
            2,
        )
    number = signal.Signals[name]
    if not _handles(pid, number):
        raise CannotProfileError(
            f"process {pid} does not handle {name}, which would end it: warpspan does once the "
            "program has imported torch",
            2,
        )
    base = Path(f"/proc/{pid}/cwd").resolve()
    pattern = f"warpspan_{pid}.*.pt.trace.json.gz"
    before = {*(base / folder).glob(pattern)}
    os.kill(pid, number)
    until_s = time.monotonic() + _WAIT_S
    with Console(stderr=True).status("waiting for inferences"):
        while not (found := {*(base / folder).glob(pattern)} - before):
            if time.monotonic() > until_s:
                raise CannotProfileError(
                    f"process {pid} recorded nothing within {_WAIT_S:.0f} s: it ran no inference, "
                    "or another profiler is at work, which its log says",
                    1,
                )
            time.sleep(_LOOK_S)
    path = str(max(found))
    traces = open_traces(path)
    if traces is None:
        raise CannotProfileError(f"{path} is not whole: it was removed or cut off", 1)
    print_traces(path, traces, output_console(stderr=False), as_json=False)


def _environment_of(pid: int) -> dict[str, str]:
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except FileNotFoundError as error:
        raise CannotProfileError(f"there is no process {pid}, or this is no Linux", 2) from error
    except PermissionError as error:
        raise CannotProfileError(f"process {pid} belongs to another user", 2) from error
    pairs = (item.partition("=") for item in os.fsdecode(raw).split("\0"))
    return {name: value for name, _, value in pairs}


def _handles(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def _default_folder() -> Path:
    now = datetime.now(timezone.utc)
    return Path(f"warpspan-profile-{now:%Y%m%dT%H%M%SZ}-{os.getpid()}")


def _claim(folder: Path) -> None:
    """Make the directory, or say why it can't be ours."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise CannotRunError(f"{folder} is not empty: give -o a new directory", 2)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotRunError(f"can't write {folder}: {reason} (-o chooses another)", 2) from error


def _show(folder: Path, program: str) -> None:
    """The report, and how to go on with what was recorded; or why there is none."""
    try:
        traces = open_traces(str(folder))
    except TraceError as error:
        say(f"warpspan: {error}")
        return
    if traces is None:
        say("warpspan: no inference was profiled: none began while the profiler ran.")
        say(
            " ".join([*reasons(config.environment()), *other_python(program)])
            or "See the log above."
        )
        return
    console = output_console(stderr=True)
    console.print()
    # The file of the spans lies there, too.
    print_traces(str(folder), traces._replace(others=0), console, as_json=False)
    name = shlex.quote(str(folder))
    console.print()
    for line in (
        f"Recorded in {folder}; the spans in {_SPANS} name their trace.",
        f"  again        {ourselves()} report {name}",
        f"  spans        {ourselves()} report {shlex.quote(str(folder / _SPANS))}",
        "  Perfetto     load a *.pt.trace.json.gz at https://ui.perfetto.dev",
        f"  TensorBoard  tensorboard --logdir {name}  # with torch-tb-profiler",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
