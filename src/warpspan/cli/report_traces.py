"""`warpspan report` of profiler traces: one file, or a directory of ranks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rich.console import Console, Group
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from warpspan import __version__
from warpspan.advisor.engine import advise
from warpspan.advisor.observation import Observation
from warpspan.cli.report_files import NO_FILES, Files, write_files
from warpspan.records.kernels import Coverage, Trace
from warpspan.records.units import plural
from warpspan.report import text
from warpspan.report.html import Page
from warpspan.report.profile import profile_rows, trace_json
from warpspan.report.profile_text import render_profile
from warpspan.report.summary import summarize
from warpspan.report.verdict_text import render_advice
from warpspan.sources.traces import (
    HEAD_BYTES,
    Head,
    TraceError,
    TraceFile,
    find_traces,
    head_of,
    named_apart,
    read_trace,
)

_PROGRESS_FROM_BYTES = 2 << 20
"""A compressed trace of this size takes about a second to read."""


class Traces(NamedTuple):
    """The traces of a report.

    Args:
        files: those that were read.
        others: other files in the directory.
        failed: a sentence about each trace that has nothing to report.
    """

    files: list[TraceFile]
    others: int
    failed: list[str]


def open_traces(file: str) -> Traces | None:
    """Read a trace, or all traces of a directory; None where it is no trace.

    Raises:
        TraceError: it is one, and there is nothing in it to report.
        OSError: it can't be read.
    """
    if file == "-":
        stream = sys.stdin.buffer
        # What has been sent so far; a peek takes nothing away from the reader of OTLP.
        head = Head.of(stream.peek(HEAD_BYTES) if hasattr(stream, "peek") else b"")
        if head.kind is None:
            return None
        with _reading(None, stream) as source:
            return Traces([read_trace(source, "standard input", head)], 0, [])
    path = Path(file)
    if not path.is_dir():
        head = head_of(path)
        if head.kind is None:
            return None
        return Traces([_read(path, head)], 0, [])
    paths, others = find_traces(path)
    if not paths:
        return None
    files, names, failed = [], [], []
    for one in paths:
        try:
            files.append(_read(one, head_of(one)))
            names.append(one.name)
        except TraceError as error:
            failed.append(str(error))
    if not files:
        raise TraceError(failed[0])
    return Traces(named_apart(files, names), others, failed)


def _read(path: Path, head: Head) -> TraceFile:
    with path.open("rb") as stream, _reading(path.stat().st_size, stream) as source:
        return read_trace(source, str(path), head)


@contextmanager
def _reading(total: int | None, stream: BinaryIO) -> Iterator[BinaryIO]:
    """The file, with a progress bar on a terminal where reading it takes a while."""
    console = Console(stderr=True)
    if not console.is_terminal or (total is not None and total < _PROGRESS_FROM_BYTES):
        yield stream
        return
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading", total=total)
        yield progress.wrap_file(stream, task_id=task, total=total)


def print_traces(
    name: str, traces: Traces, console: Console, *, as_json: bool, files: Files = NO_FILES
) -> None:
    """Print the tables, or one JSON object, and write files.

    Raises:
        CannotWriteError: a file can't be written.
    """
    held = [file.trace for file in traces.files]
    summary = summarize(one.inference for trace in held for one in trace.inferences)
    rows = profile_rows(held)
    observation = Observation.of_traces(held)
    advice = advise(observation)
    write_files(files, Page(name, summary, advice, observation, remarks(traces), __version__))
    if as_json:
        print(
            json.dumps(
                {
                    "file": name,
                    "cut": any(file.cut for file in traces.files),
                    "skipped_events": sum(file.broken_count for file in traces.files),
                    **summary.to_json(),
                    "training_steps": sum(trace.training_steps for trace in held),
                    **advice.to_json(),
                    "profile": [row.to_json() for row in rows],
                    "traces": [trace_json(trace) for trace in held],
                },
                indent=2,
            )
        )
        return
    parts = (
        [render_advice(advice, console), text.render(summary, console)]
        if summary.rows
        else [Text(_no_inference(held), "bold")]
    )
    console.print(Group(*parts, Text(), render_profile(held, rows, console)))
    for remark in remarks(traces):
        console.print(remark, style="dim", markup=False, highlight=False)


def _no_inference(traces: list[Trace]) -> str:
    steps = sum(trace.training_steps for trace in traces)
    if steps:
        return f"{plural(steps, 'training step')}, no inference"
    return "No inference was found"


def remarks(traces: Traces) -> list[str]:
    """What a reader of the tables has to know of the traces, a sentence each."""
    said = []
    held = [file.trace for file in traces.files]
    steps = sum(trace.training_steps for trace in held)
    if steps:
        said.append(
            f"{plural(steps, 'training step')} with a backward pass or an optimizer: "
            "not counted as inferences."
        )
    if any(file.cut for file in traces.files):
        said.append("The trace breaks off; what is whole is summarized.")
    if broken := sum(file.broken_count for file in traces.files):
        said.append(f"Events that could not be read were skipped: {broken:,}.")
    coverages = [trace.coverage for trace in held]
    outside = sum(one.unassigned for one in coverages)
    if outside and any(trace.inferences for trace in held):
        said.append(f"{outside:,} kernels and copies were launched outside of inferences.")
    said += _missing(coverages)
    if any(trace.format == "PyTorch Profiler" for trace in held):
        said += _not_asked_for(coverages)
    if traces.others:
        said.append(f"Other files in the directory: {traces.others:,}.")
    return [*said, *(f"{sentence}." for sentence in traces.failed)]


def _missing(coverages: list[Coverage]) -> list[str]:
    said = []
    if unmeasured := sum(one.unmeasured_kernels for one in coverages):
        said.append(
            f"{unmeasured:,} kernels were counted by the hardware (CUPTI ranges) and have no times."
        )
    if not any(one.kernels for one in coverages):
        said.append(
            "No kernel was recorded: busy and idle times of devices are not known "
            "(ProfilerActivity.CUDA records them)."
        )
    if lost := sum(one.graphs_without_kernels for one in coverages):
        launches = sum(one.graph_launches for one in coverages)
        said.append(
            f"{lost:,} of {launches:,} launches of CUDA graphs have no kernels in the trace: "
            "busy and idle times are not known."
        )
    if by_time := sum(one.by_time for one in coverages):
        said.append(
            f"{by_time:,} kernels and copies have no launch in the trace and were assigned by time."
        )
    return said


def _not_asked_for(coverages: list[Coverage]) -> list[str]:
    """What PyTorch's profiler records on demand."""
    kinds = {
        "Python functions (with_stack=True)": [one.python for one in coverages],
        "shapes (record_shapes=True)": [one.shapes for one in coverages],
        "memory (profile_memory=True)": [one.memory for one in coverages],
    }
    lacking = [name for name, held in kinds.items() if not any(held)]
    return [f"Not in the trace: {', '.join(lacking)}."] if lacking else []
