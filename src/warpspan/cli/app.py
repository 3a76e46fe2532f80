"""The commands and their options; the modules beside this one implement them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from warpspan import __version__
from warpspan.cli import profile as profile_command
from warpspan.cli import report as report_command
from warpspan.cli import report_files
from warpspan.cli import run as run_command
from warpspan.cli.ending import interrupted
from warpspan.cli.process import CannotRunError
from warpspan.kernels.bench import fused_cli


class _Interruptible(TyperGroup):
    """The commands; Ctrl-C ends each of them alike, whatever typer's version makes of it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            interrupted()


app = typer.Typer(
    name="warpspan",
    cls=_Interruptible,
    help="Record what each PyTorch inference costs on its OpenTelemetry span.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench_app = typer.Typer(help="Benchmark the fused kernels.", no_args_is_help=True)
bench_app.registered_commands += fused_cli.app.registered_commands
app.add_typer(bench_app, name="bench")


def fail(message: str, code: int) -> NoReturn:
    """Say in one sentence what is wrong, and exit."""
    typer.echo(f"warpspan: {message}", err=True)
    raise typer.Exit(code)


def _print_version(*, asked: bool) -> None:
    if asked:
        typer.echo(f"warpspan {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and exit.",
            is_eager=True,
            callback=lambda value: _print_version(asked=value),
        ),
    ] = False,
) -> None:
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a sign gets a question mark in its place, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND",
            help="The program and its arguments, after --: python app.py, uvicorn app:app, …",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Output file. An existing file is overwritten only if it contains OTLP JSON lines.",
            show_default="warpspan-TIME-PID.jsonl in the working directory",
        ),
    ] = None,
) -> None:
    """Run a program under auto-instrumentation and summarize its inferences.

    Spans and metrics of PyTorch inferences, and of every other OpenTelemetry instrumentation that
    is installed, are written to a file by OpenTelemetry's OTLP JSON file exporter. A summary
    follows on standard error when the program ends. stdin, stdout, exit code and signals are passed
    through unchanged. OTEL_* variables that you set are kept: exporters chosen with
    OTEL_TRACES_EXPORTER or OTEL_METRICS_EXPORTER work beside the file, and `none` is kept unless -o
    is given.
    """
    try:
        run_command.run(command, output)
    except CannotRunError as error:
        fail(str(error), error.code)


@app.command(context_settings={"allow_interspersed_args": False})
def profile(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            help="The program and its arguments, after --.",
            show_default=False,
        ),
    ] = None,
    *,
    inferences: Annotated[
        int,
        typer.Option("--inferences", "-n", min=1, max=1000, help="Inferences to record in detail."),
    ] = 20,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="New directory for traces and spans.",
            show_default="warpspan-profile-TIME-PID in the working directory",
        ),
    ] = None,
    pid: Annotated[
        int | None,
        typer.Option(
            help="Profile the next inferences of a running process instead. It must have been "
            "started with OTEL_PYTHON_WARPSPAN_DEEP_SIGNAL and OTEL_PYTHON_WARPSPAN_DEEP_DIRECTORY.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a program and record its first inferences with kernels, operators and shapes.

    As `warpspan run`, and those inferences run under PyTorch's profiler, which slows them down.
    When the program ends, the report of the traces follows on standard error.

    Exit code: that of the program. 2: wrong usage. With --pid 1: nothing was recorded.
    """
    if (pid is None) == (not command):
        fail("give either a program after -- or --pid", 2)
    try:
        if pid is not None:
            profile_command.attach(pid)
        else:
            profile_command.run(command or [], output, inferences)
    except (CannotRunError, profile_command.CannotProfileError) as error:
        fail(str(error), error.code)


@app.command()
def report(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]",
            help="OTLP JSON lines, as `warpspan run` and OpenTelemetry's file exporters write "
            "them, a trace of PyTorch's, TensorFlow's or JAX's profiler, or a directory of "
            "traces. - reads standard input.",
            show_default=False,
        ),
    ] = None,
    *,
    tempo: Annotated[
        str | None, typer.Option(metavar="URL", help="Read from Tempo, such as http://host:3200.")
    ] = None,
    jaeger: Annotated[
        str | None, typer.Option(metavar="URL", help="Read from Jaeger, such as http://host:16686.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How far back: 15m, 2h, 7d.", show_default="1h"),
    ] = None,
    service: Annotated[
        str | None, typer.Option(metavar="NAME", help="One service alone.", show_default="all")
    ] = None,
    trace: Annotated[
        str | None, typer.Option(metavar="ID", help="One trace alone.", show_default=False)
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'NAME: VALUE'",
            help="Sent to the store, such as 'Authorization: Bearer …'; repeatable.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Machine-readable output: one JSON object.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            show_default=False,
            help="Write a page with verdicts, charts and a timeline, which needs no network.",
        ),
    ] = None,
    perfetto: Annotated[
        Path | None,
        typer.Option(
            "--perfetto",
            metavar="FILE",
            show_default=False,
            help="Write a trace for ui.perfetto.dev: requests, inferences, devices, counters.",
        ),
    ] = None,
) -> None:
    """Summarize the inferences in a file or a store, one row per model and operation.

    Percentiles are values that occurred (nearest rank), including failed inferences. Device share
    is device time divided by duration. Idle share is the part of the time in which the device had ended
    one inference and waited for the next, idle / (idle + busy).

    Exit code 0: there is a summary. 1: the file has nothing to summarize. 2: wrong usage.
    """
    given = {
        "FILE": file,
        "--since": since,
        "--service": service,
        "--trace": trace,
        "--header": header,
    }
    files = report_files.Files(html, perfetto)
    try:
        store = report_command.chosen(tempo, jaeger, given)
        if store is None:
            report_command.report(str(file), as_json=as_json, files=files)
        else:
            from warpspan.cli import report_stores  # its HTTP client takes a while to import

            wanted = report_stores.Wanted(*store, since or "1h", service, trace, header or ())
            report_stores.report_store(wanted, as_json=as_json, files=files)
    except report_command.CannotReportError as error:
        fail(str(error), error.code)


@app.command()
def compare(
    before: Annotated[str, typer.Argument(metavar="BEFORE", show_default=False, help="A file.")],
    after: Annotated[
        str,
        typer.Argument(
            metavar="AFTER",
            show_default=False,
            help="Another one. Both are OTLP JSON lines, or both traces of a profiler (or "
            "directories of them). - reads standard input.",
        ),
    ],
    *,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="LIMIT",
            show_default=False,
            help="End with exit code 1 where this is true, as 'device_time_p50 > +5%', "
            "'energy_mean > +0.5J' (changes) or 'duration_p99 > 50ms' (the value after); repeatable.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Machine-readable output: one JSON object.")
    ] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Markdown, for a comment on a pull request.")
    ] = False,
) -> None:
    """Compare two runs: what changed per operation and model, and how sure that is.

    The warm-up is left out, and so are failed inferences. A change counts as shown where its
    bootstrapped 95 % interval does not hold 0 and where it exceeds the noise inside the runs. A
    change that is not shown breaks no limit.

    Exit code 0: compared. 1: a limit of --fail-on was not held or could not be checked, or the files
    have nothing in common. 2: wrong usage.
    """
    from warpspan.cli import compare as compare_command

    try:
        held = compare_command.compare(
            before, after, fail_on or [], as_json=as_json, as_markdown=as_markdown
        )
    except compare_command.CannotCompareError as error:
        fail(str(error), error.code)
    if not held:
        raise typer.Exit(1)


@app.command()
def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="Print one snapshot and exit.")] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Machine-readable output: one JSON object per line and second."
        ),
    ] = False,
) -> None:
    """Show the GPUs of this machine, the instrumented processes and their inferences, live.

    Rates, percentiles of the latest durations, tokens, waits in the queue, GPU-seconds, energy and
    processor time by service and model, of processes of your own user. They are means per call over
    the last second. Works without a GPU.

    Kernels is the share of time in which any kernel ran. SM, tensor and DRAM are the utilization of
    these units (Hopper and newer).

    Keys: q quits, s sorts by the next column, r reverses, / filters, f shows single processes and MIG
    instances, p shows all processes on the GPUs, arrows scroll.
    """
    from warpspan.cli import top as top_command  # not for `run`, which must start at once

    top_command.top(as_json=as_json, once=once)


@app.command()
def doctor(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Machine-readable output: one JSON object.")
    ] = False,
) -> None:
    """Check this machine and print fixes for the problems found.

    Run it with your program's environment; it checks those variables.

    Exit code 0: no errors were found. 1: at least one error was found.
    """
    from warpspan.cli import doctor as doctor_command  # it asks torch

    if not doctor_command.doctor(as_json=as_json):
        raise typer.Exit(1)
