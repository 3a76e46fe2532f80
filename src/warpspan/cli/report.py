"""`warpspan report`: the summary of a file, and what can be said of a file without one."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from warpspan import __version__
from warpspan.advisor.engine import advise
from warpspan.advisor.observation import KEPT_INFERENCES, Observation, Recent
from warpspan.advisor.verdict import Advice
from warpspan.cli.report_files import NO_FILES, CannotWriteError, Files, write_files
from warpspan.cli.report_traces import open_traces, print_traces
from warpspan.records import CacheState, Device
from warpspan.records.skips import describe
from warpspan.records.units import plural, size
from warpspan.report import text
from warpspan.report.devices import DeviceLine, summarize_devices
from warpspan.report.html import Page
from warpspan.report.leaks import History, Level
from warpspan.report.summary import Summary, summarize
from warpspan.report.verdict_text import render_advice
from warpspan.sources.otlp_json import Lines, OtlpJsonReader
from warpspan.sources.traces import TraceError

_PROGRESS_FROM_BYTES = 16 << 20
"""A file of this size takes about a second to read."""


class CannotReportError(Exception):
    """There is no summary. `code` is the exit code: 1 nothing to summarize, 2 wrong usage."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def report(file: str, *, as_json: bool, files: Files = NO_FILES) -> None:
    """Print the summary of a file, of standard input for `-`, or of a directory of traces.

    Args:
        file: to read.
        as_json: whether one JSON object is printed instead.
        files: to write beside it.

    Raises:
        CannotReportError: with a sentence that says why there is none.
    """
    if trouble := files.trouble(file):
        raise CannotReportError(trouble, 2)
    try:
        traces = open_traces(file)
    except TraceError as error:
        raise CannotReportError(str(error), 1) from error
    except OSError:
        traces = None  # said below
    name = "standard input" if file == "-" else file
    try:
        if traces is not None:
            print_traces(name, traces, output_console(stderr=False), as_json=as_json, files=files)
        else:
            _report_otlp(file, name, files, as_json=as_json)
    except CannotWriteError as error:
        raise CannotReportError(str(error), 2) from error


def _report_otlp(file: str, name: str, files: Files, *, as_json: bool) -> None:
    read_ = read(file)
    if not read_.summary.rows:
        raise CannotReportError(nothing(read_.reader, name), 1)
    present(name, read_, files, as_json=as_json)


def present(name: str, read_: Read, files: Files, *, as_json: bool) -> None:
    """Write the files that were asked for, and print the summary as text or JSON.

    Raises:
        CannotWriteError: a file can't be written.
    """
    summary, reader, advice, observation = read_
    write_files(files, Page(name, summary, advice, observation, remarks(reader), __version__))
    if as_json:
        print(json.dumps(_to_json(name, summary, reader) | advice.to_json(), indent=2))
    else:
        show(summary, reader, advice, output_console(stderr=False))


def show(summary: Summary, reader: OtlpJsonReader, advice: Advice, console: Console) -> None:
    """Print the answer, the table and what a reader of both needs to know."""
    console.print(render_advice(advice, console))
    console.print(text.render(summary, console))
    for remark in remarks(reader):
        console.print(remark, style="dim", markup=False, highlight=False)


class Read(NamedTuple):
    """A file that was read line by line.

    Args:
        summary: the table.
        reader: with its counts.
        advice: verdicts and ledgers.
        observation: what they were made from.
    """

    summary: Summary
    reader: OtlpJsonReader
    advice: Advice
    observation: Observation


def read(file: str) -> Read:
    """Read a file of OTLP JSON lines.

    Raises:
        CannotReportError: the file can't be read at all.
    """
    with opened(file) as stream:
        return read_lines(stream)


def read_lines(lines: Lines) -> Read:
    """Read lines of OTLP JSON."""
    reader, history, recent = OtlpJsonReader(lines), History(), Recent()
    summary = summarize(recent.passing(history.passing(reader)))
    levels = {key: Level(*level) for key, level in reader.kv_cache_levels().items()}
    summary = summary._replace(leaks=history.leaks(levels, reader.counted_by_model()))
    caches = [
        CacheState(model, Device(""), size, count, score)
        for (_, model), (size, count, score) in reader.kv_cache_levels().items()
    ]
    samples = reader.device_samples()
    observation = recent.observation(reader.requests, samples, caches or None)
    return Read(summary, reader, advise(observation), observation)


def chosen(
    tempo: str | None, jaeger: str | None, given: Mapping[str, object]
) -> tuple[str, str] | None:
    """Kind and address of the store that the options name; None where they name a file.

    Args:
        tempo: the value of --tempo.
        jaeger: the value of --jaeger.
        given: the values of FILE and of the options that go with a store.

    Raises:
        CannotReportError: the options contradict each other.
    """
    stores = [(kind, url) for kind, url in (("tempo", tempo), ("jaeger", jaeger)) if url]
    if len(stores) > 1:
        raise CannotReportError("give --tempo or --jaeger, not both", 2)
    if stores:
        if given["FILE"] is not None:
            raise CannotReportError(f"give FILE or --{stores[0][0]}, not both", 2)
        return stores[0]
    if alone := [name for name, value in given.items() if value and name != "FILE"]:
        raise CannotReportError(f"{alone[0]} needs --tempo URL or --jaeger URL", 2)
    if given["FILE"] is None:
        raise CannotReportError("give a FILE, or --tempo URL, or --jaeger URL", 2)
    return None


def output_console(*, stderr: bool) -> Console:
    """A console as wide as its terminal, or as wide as it takes where there is none."""
    console = Console(stderr=stderr)
    if not console.is_terminal:
        console = Console(stderr=stderr, width=1000)
    return console


def nothing(reader: OtlpJsonReader, name: str) -> str:
    """Why a file has no summary, as far as the file shows it."""
    if reader.lines == 0:
        return f"{name} is empty"
    if reader.compression is not None:
        compression, command = reader.compression
        return (
            f"{name} is compressed with {compression}: "
            f"{command} {shlex.quote(name)} | warpspan report -"
        )
    if reader.otlp_lines == 0:
        if reader.cut and reader.lines == 1:
            return f"{name} is not OTLP JSON, or its first line is truncated; no complete record was found"
        if not reader.broken_lines:
            return (
                f"{name} is JSON, but not OTLP: no line is an object with resourceSpans or "
                "resourceMetrics"
            )
        return (
            f"{name} is not OTLP JSON with one object per line, as `warpspan run` writes it (convert "
            f"multi-line JSON with: jq -c . {shlex.quote(name)} | warpspan report -)"
        )
    if reader.broken_spans:
        return f"the values of all {reader.broken_spans:,} inference spans in {name} are broken"
    if reader.counted:
        return (
            f"the metrics count {plural(reader.counted, 'inference')} but {name} has no spans "
            "for them: they were sampled out, lost, or exported elsewhere"
        )
    if reader.other_spans:
        spans = plural(reader.other_spans, "span")
        return f"{name} has {spans}, but no span of a PyTorch inference"
    return f"{name} has no spans"


def remarks(reader: OtlpJsonReader) -> list[str]:
    """Facts about the file that a reader of the summary needs, one sentence each."""
    said = []
    if reader.cut:
        said.append("The last line is incomplete and was skipped.")
    if skipped := reader.broken_lines + reader.foreign_lines:
        said.append(f"Lines that are not OTLP JSON were skipped: {skipped:,}.")
    if reader.broken_spans:
        said.append(f"Inference spans with broken values were skipped: {reader.broken_spans:,}.")
    if reader.counted > reader.inferences:
        said.append(
            f"The metrics count {reader.counted:,} inferences. The table shows the "
            f"{reader.inferences:,} with a span in the file; the rest was not sampled, or lost."
        )
    if reader.inferences > KEPT_INFERENCES:
        said.append(f"The verdict looks at the last {KEPT_INFERENCES:,} inferences.")
    if reader.dropped:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in reader.dropped.items())
        said.append(f"Inferences that were not recorded, or only in part: {reasons}.")
    said += [_device(line) for line in summarize_devices(reader.device_samples())]
    if calls := describe(reader.skipped):
        said.append(f"{calls}.")
    return said


def _to_json(name: str, summary: Summary, reader: OtlpJsonReader) -> dict[str, object]:
    return {
        "file": name,
        "cut": reader.cut,
        "skipped_lines": reader.broken_lines + reader.foreign_lines,
        "skipped_spans": reader.broken_spans,
        "other_spans": reader.other_spans,
        "counted_by_metrics": reader.counted,
        "dropped": reader.dropped,
        "skipped": reader.skipped,
        "devices": [line.to_json() for line in summarize_devices(reader.device_samples())],
        **summary.to_json(),
    }


def _device(line: DeviceLine) -> str:
    figures = [
        *([] if line.power_mean_w is None else [f"mean power {line.power_mean_w:.0f} W"]),
        *([] if line.temperature_max_c is None else [f"up to {line.temperature_max_c:.0f} °C"]),
        *(
            []
            if line.memory_max_bytes is None
            else [f"up to {size(line.memory_max_bytes)} of memory in use"]
        ),
    ]
    seen = f"{plural(line.samples, 'sample')} of the whole device"
    return f"{line.device_id}: {', '.join([*figures, seen])}."


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """The file, or standard input for `-`.

    Raises:
        CannotReportError: it can't be opened, or reading it fails.
    """
    try:
        with _with_progress(file) as stream:
            yield stream
    except OSError as error:
        reasons: dict[type[OSError], str] = {
            FileNotFoundError: "there is no such file",
            IsADirectoryError: "it is a directory: give a file in it",
            PermissionError: "you may not read it",
        }
        reason = reasons.get(type(error), error.strerror or str(error))
        raise CannotReportError(f"can't read {file}: {reason}", 2) from error


@contextmanager
def _with_progress(file: str) -> Iterator[BinaryIO]:
    """The file, with a progress bar on a terminal where reading it takes a while."""
    total = None if file == "-" else Path(file).stat().st_size
    with sys.stdin.buffer if total is None else Path(file).open("rb") as stream:
        console = Console(stderr=True)
        if not console.is_terminal or (total is not None and total < _PROGRESS_FROM_BYTES):
            yield stream
            return
        columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("reading", total=total)
            yield progress.wrap_file(stream, task_id=task, total=total)
