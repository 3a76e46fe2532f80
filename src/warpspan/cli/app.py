"""The commands and their options; the modules beside this one implement them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from warpspan import __version__
from warpspan.cli import report as report_command
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


@app.command()
def report(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="OTLP JSON lines, as `warpspan run` and OpenTelemetry's file exporters write "
            "them, a trace of PyTorch's, TensorFlow's or JAX's profiler, or a directory of "
            "traces. - reads standard input.",
            show_default=False,
        ),
    ],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Machine-readable output: one JSON object.")
    ] = False,
) -> None:
    """Summarize the inferences in a file, one row per model and operation.

    Percentiles are values that occurred (nearest rank), including failed inferences. Device share
    is device time divided by duration. Idle share is the part of the time in which the device had ended
    one inference and waited for the next, idle / (idle + busy).

    Exit code 0: there is a summary. 1: the file has nothing to summarize. 2: wrong usage.
    """
    try:
        report_command.report(file, as_json=as_json)
    except report_command.CannotReportError as error:
        fail(str(error), error.code)


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
