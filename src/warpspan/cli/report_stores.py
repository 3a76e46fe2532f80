"""`warpspan report --tempo` and `--jaeger`: the summary of what a running system has stored."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from warpspan.cli.report import CannotReportError, output_console, present, read_lines
from warpspan.cli.report_files import NO_FILES, CannotWriteError, Files
from warpspan.records.units import plural
from warpspan.sources.stores import Api, Jaeger, Lines, Search, Store, StoreError, Tempo

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Wanted(NamedTuple):
    """What is asked of a store.

    Args:
        kind: `tempo` or `jaeger`.
        url: of its HTTP API.
        since: how far back, such as `15m`, `2h` or `7d`.
        service: `service.name`, or None for all.
        trace_id: one trace alone, or None.
        headers: sent with each request, each as `Name: value`.
    """

    kind: str
    url: str
    since: str = "1h"
    service: str | None = None
    trace_id: str | None = None
    headers: Sequence[str] = ()


def report_store(wanted: Wanted, *, as_json: bool, files: Files = NO_FILES) -> None:
    """Print the summary of the inferences in a store.

    Raises:
        CannotReportError: with a sentence that says why there is none.
    """
    search = Search(0, 0) if wanted.trace_id else _search(wanted)
    headers = dict(_header(header) for header in wanted.headers)
    try:
        api = Api(wanted.url, headers)
        store: Store = Tempo(api) if wanted.kind == "tempo" else Jaeger(api)
        ids, cut_s = ([wanted.trace_id], []) if wanted.trace_id else store.find(search)
        with _reading(store, ids) as lines:
            read = read_lines(lines)
    except StoreError as error:
        raise CannotReportError(str(error), 1) from error
    if not read.summary.rows:
        raise CannotReportError(_nothing(wanted, found=len(ids)), 1)
    try:
        present(wanted.url, read, files, as_json=as_json)
    except CannotWriteError as error:
        raise CannotReportError(str(error), 2) from error
    if cut_s and not as_json:
        output_console(stderr=False).print(
            f"{plural(len(cut_s), 'second')} had more traces than the store gives for one search; "
            "the others of that time are left out. Ask for one --service.",
            style="dim",
        )


def _search(wanted: Wanted) -> Search:
    match = re.fullmatch(r"(\d+)([smhd])", wanted.since)
    if match is None or not int(match[1]):
        raise CannotReportError(
            f"--since {wanted.since} is no time: give a number with s, m, h or d, such as 15m", 2
        )
    now_s = int(time.time())
    return Search(now_s - int(match[1]) * _UNITS_S[match[2]], now_s + 1, wanted.service)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise CannotReportError(f"--header {name} is no header: give it as 'Name: value'", 2)
    return name.strip(), value.strip()


def _nothing(wanted: Wanted, *, found: int) -> str:
    if wanted.trace_id is not None:
        return f"{wanted.url} has no inference in a trace {wanted.trace_id}"
    whose = "" if wanted.service is None else f" of the service {wanted.service}"
    looked = f" in {plural(found, 'trace')}" if found else ""
    return (
        f"{wanted.url} has no inference{whose} of the last {wanted.since}{looked}: choose a longer "
        "--since, or look at the name of the service"
    )


@contextmanager
def _reading(store: Store, ids: Sequence[str]) -> Iterator[Lines]:
    """The traces as lines, with a progress bar on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(store, ids)
        return
    columns = (TextColumn("reading traces"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("reading", total=len(ids))
        yield Lines(store, ids, lambda passed: progress.update(task, completed=passed))
