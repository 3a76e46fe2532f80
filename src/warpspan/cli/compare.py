"""`warpspan compare`: two runs read, compared, and held to limits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from warpspan.advisor.engine import advise
from warpspan.advisor.observation import Observation, Recent
from warpspan.advisor.verdict import Advice
from warpspan.cli.report import CannotReportError, nothing, opened, output_console
from warpspan.cli.report_traces import Traces, open_traces
from warpspan.report.compare import Compared, Run, compare_runs
from warpspan.report.compare_limits import Checked, LimitError, State, check, parse_limit
from warpspan.report.compare_text import markdown, render_compared
from warpspan.report.compare_verdicts import moved
from warpspan.sources.otlp_json import OtlpJsonReader
from warpspan.sources.traces import TraceError


class CannotCompareError(Exception):
    """There is nothing to compare. `code` is the exit code: 1 nothing in common, 2 wrong usage."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class _Read(NamedTuple):
    """A file that was read: its inferences, what is said of them, and whether it is a profiler's."""

    run: Run
    advice: Advice
    is_trace: bool


def compare(
    before: str, after: str, fail_on: Sequence[str], *, as_json: bool, as_markdown: bool
) -> bool:
    """Print what changed from one file to the other; False where a limit was not held.

    Raises:
        CannotCompareError: with a sentence that says why there is nothing to print.
    """
    if as_json and as_markdown:
        raise CannotCompareError("choose one of --json and --markdown", 2)
    if before == after == "-":
        raise CannotCompareError("only one of the files can be standard input", 2)
    try:
        limits = [parse_limit(expression) for expression in fail_on]
    except LimitError as error:
        raise CannotCompareError(str(error), 2) from error
    first, second = _read(before), _read(after)
    if first.is_trace != second.is_trace:
        raise CannotCompareError(
            "a profiler's trace can't be compared with OTLP: profiling changes the times; give two "
            "files of one kind",
            2,
        )
    compared = compare_runs(first.run, second.run)
    if not compared.rows:
        raise CannotCompareError(
            f"{before} and {after} have no operation and model in common: "
            f"{_names(first.run)} against {_names(second.run)}",
            1,
        )
    compared = compared._replace(bottlenecks=moved(first.advice, second.advice))
    checked = check(limits, compared)
    if as_json:
        print(json.dumps(_to_json((before, after), compared, checked), indent=2))
    elif as_markdown:
        print(markdown(compared, checked, (before, after)))
    else:
        console = output_console(stderr=False)
        console.print(render_compared(compared, checked, console))
    return all(one.state is State.HELD for one in checked)


def _read(file: str) -> _Read:
    try:
        try:
            traces = open_traces(file)
        except OSError:
            traces = None  # said below
        if traces is not None:
            return _of_traces(traces, file)
        with opened(file) as stream:
            reader, recent = OtlpJsonReader(stream), Recent()
            run = Run(recent.passing(reader))
    except TraceError as error:
        raise CannotCompareError(str(error), 1) from error
    except CannotReportError as error:
        raise CannotCompareError(str(error), error.code) from error
    if not run.groups:
        name = "standard input" if file == "-" else file
        raise CannotCompareError(nothing(reader, name), 1)
    observation = recent.observation(reader.requests, reader.device_samples(), None)
    return _Read(run, advise(observation), is_trace=False)


def _of_traces(traces: Traces, file: str) -> _Read:
    held = [one.trace for one in traces.files]
    run = Run(traced=(one for trace in held for one in trace.inferences))
    if not run.groups:
        raise CannotCompareError(f"{file} has no inference", 1)
    return _Read(run, advise(Observation.of_traces(held)), is_trace=True)


def _names(run: Run) -> str:
    return ", ".join(f"{operation} {model or ''}".rstrip() for operation, model in run.groups)


def _to_json(
    files: tuple[str, str], compared: Compared, checked: Sequence[Checked]
) -> dict[str, object]:
    return {
        "before": files[0],
        "after": files[1],
        **compared.to_json(),
        "fail_on": [one.to_json() for one in checked],
    }
