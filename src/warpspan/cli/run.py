"""`warpspan run`: a program under auto-instrumentation, and the summary when it ends."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from warpspan.cli import process
from warpspan.cli.doctor_names import names
from warpspan.cli.ending import INSTALL, cause
from warpspan.cli.environment import environment, reasons
from warpspan.cli.process import CannotRunError
from warpspan.cli.report import nothing, output_console, read, show
from warpspan.export import appender, notes
from warpspan.records.skips import describe
from warpspan.records.units import size

_NEEDED = ("opentelemetry.distro", "opentelemetry.exporter.otlp.json.file")
_IMPORT = "https://github.com/warpspan/warpspan/blob/main/collector-config/import.yaml"


def run(command: Sequence[str], output: Path | None) -> NoReturn:
    """Run a command, print the summary of its inferences on standard error, end as it ended.

    Raises:
        CannotRunError: with a sentence that says why it was not started.
    """
    process.check_system()
    check_installed()
    program = process.find(command[0], os.environ.get("PATH", os.defpath))
    file = _default_output() if output is None else output
    _claim(file)
    noted = notes.path(str(file.absolute()))
    noted.write_bytes(b"")
    try:
        environ = environment(os.environ, command, file, explicit=output is not None)
        status = process.run(program, command, environ)
        processes = notes.read(noted.read_text().splitlines())
    finally:
        noted.unlink()
    # Nothing that goes wrong here, a full disk or a second Ctrl-C, may change how it ended.
    with contextlib.suppress(KeyboardInterrupt, OSError):
        try:
            why = [*_known(environ, program), cause(status, processes)]
            _show(file, why, remove_empty=output is None)
        except Exception as error:
            say(f"warpspan: can't summarize {file}: {error}")
    process.exit_like(status)


def check_installed() -> None:
    """Find out whether everything is there that records and exports.

    Raises:
        CannotRunError: something is missing.
    """
    for module in _NEEDED:
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise CannotRunError(f"`warpspan run` needs {module}: {INSTALL}", 2)


def _default_output() -> Path:
    now = datetime.now(timezone.utc)
    return Path(f"warpspan-{now:%Y%m%dT%H%M%SZ}-{os.getpid()}.jsonl")


def _claim(file: Path) -> None:
    """Make the file empty, or say why it can't be ours. Only OTLP JSON is overwritten."""
    try:
        if file.is_dir():
            raise CannotRunError(f"{file} is a directory: give -o the name of a file", 2)
        if file.exists():
            if not file.is_file():
                raise CannotRunError(f"{file} is not a regular file: give -o another name", 2)
            with file.open("rb") as stream:
                start = stream.read(len(b'{"resource'))
            if start not in (b"", b'{"resource'):
                raise CannotRunError(
                    f"{file} exists and is not OTLP JSON, so it is not overwritten: "
                    "give -o another name",
                    2,
                )
        file.write_bytes(b"")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotRunError(
            f"can't write {file}: {reason} (-o chooses another file)", 2
        ) from error


def _known(environ: Mapping[str, str], program: str) -> list[str]:
    """What keeps a program from recording, as far as it was known before it began."""
    wrong = [f"{one.subject}: {one.said} ({one.fix})." for one in names(environ)]
    return [*reasons(os.environ), *wrong, *other_python(program)]


def _show(file: Path, why: list[str], *, remove_empty: bool) -> None:
    """The summary and what to do with the file, or why there is none."""
    summary, reader, advice, _ = read(str(file))
    if not summary.rows:
        *known, ending = why
        if skipped := describe(reader.skipped):
            known.append(f"{skipped}.")
        empty = reader.lines == 0
        found = "no telemetry was written" if empty else nothing(reader, str(file))
        say(f"warpspan: no inferences recorded: {found}.")
        say(" ".join(known) if known else ending)
        if empty and remove_empty:
            file.unlink()
        return
    console = output_console(stderr=True)
    console.print()
    show(summary, reader, advice, console)
    length, limit = file.stat().st_size, appender.limit_bytes(os.environ)
    if limit is not None and length >= limit:
        remark = f"The file has its limit of {size(limit)}; what came later is not recorded."
        console.print(remark, markup=False, highlight=False)
    name = shlex.quote(str(file))
    console.print()
    for line in (
        f"Recorded in {file} ({size(length)} of OTLP JSON).",
        f"  again   {ourselves()} report {name}",
        f"  Jaeger  grep resourceSpans {name} > traces.json  # then upload it in Jaeger's UI",
        f"  others  OpenTelemetry Collector, receiver otlp_json_file, as in {_IMPORT}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def ourselves() -> str:
    """This command as the user's shell finds it."""
    found = shutil.which("warpspan")
    if found is not None and Path(found).absolute().parent == Path(sys.executable).parent:
        return "warpspan"
    return f"{shlex.quote(sys.executable)} -m warpspan"


def other_python(program: str) -> list[str]:
    """A Python that is not the one with warpspan has none of this."""
    is_python = Path(program).name.startswith("python")
    if is_python and Path(program).absolute().parent != Path(sys.executable).absolute().parent:
        return [f"The program is {program}, but warpspan is installed for {sys.executable}."]
    return []


def say(sentence: str) -> None:
    """Print one sentence on standard error."""
    Console(stderr=True, soft_wrap=True).print(sentence, markup=False, highlight=False)
