"""What an instrumented inference pays, against no telemetry and against telemetry by other means.

`python -m benchmarks.overhead` in a checkout, also `make bench`. Each mode (recorded, unsampled, no
SDK) runs in a process of its own, in which all variants take turns.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from benchmarks import children
from benchmarks.environment import describe_environment
from benchmarks.overhead import generate, modes, table
from benchmarks.overhead import methods as replaced
from benchmarks.overhead import soak as endurance

T = TypeVar("T")

_SECONDS, _QUICK_SECONDS = 90.0, 12.0
_FULL_RATE_SECONDS, _QUICK_FULL_RATE_SECONDS = 3.0, 0.5
_METHODS_SHARE = 0.1  # comes on top
_SOAK_CALLS, _SOAK_LEAST = 1_000_000, 1_000
_FILE_WIDTH, _DOCUMENT_WIDTH = 120, 200


def main(arguments: Sequence[str] | None = None) -> int:
    """The command.

    Args:
        arguments: the command line behind the name of the program; None is that of the process.

    Returns:
        The exit code. 0: measured, whether or not the targets are met. 1: could not be measured.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.seconds > 0:
        parser.error("--seconds must be more than 0")
    if options.soak is not None and options.soak < _SOAK_LEAST:
        parser.error(f"--soak must be at least {_SOAK_LEAST}")
    if options.json is not None and not options.json.parent.is_dir():  # said before it measures
        parser.error(f"--json: there is no directory {options.json.parent}")
    try:
        if options.soak is not None:
            return soak(options.soak, json_path=options.json)
        return run(
            seconds=options.seconds,
            json_path=options.json,
            quick=options.quick,
            markdown=options.markdown,
        )
    except OSError as error:
        print(f"warpspan: can't write {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


def run(
    *,
    seconds: float = _SECONDS,
    json_path: Path | None = None,
    quick: bool = False,
    markdown: bool = False,
) -> int:
    """Measure every mode and print the tables.

    Args:
        seconds: how long to measure, all modes together; more makes steadier figures.
        json_path: where to write the figures as well.
        quick: a look in 12 seconds, too short for figures to quote.
        markdown: print tables for a document.

    Returns:
        0, or 1 where the machine was too busy to measure.
    """
    if quick:
        seconds = _QUICK_SECONDS
    full_rate_s = _QUICK_FULL_RATE_SECONDS if quick else _FULL_RATE_SECONDS
    console, progress = _consoles(markdown=markdown)
    results = []
    for mode in modes.MODES:
        share = seconds / len(modes.MODES)
        with progress.status(f"Measuring: {mode} (about {share:.0f} s)", refresh_per_second=2):
            try:
                results.append(_in_own_process(modes.run, mode, share, full_rate_s))
            except modes.LostError as lost:
                progress.print(f"warpspan: {lost}", highlight=False, soft_wrap=True)
                return 1
    with progress.status("Measuring: replaced methods", refresh_per_second=2):
        methods = _in_own_process(replaced.run, seconds * _METHODS_SHARE)
    with progress.status("Measuring: generate", refresh_per_second=2):
        generated = _in_own_process(generate.run, seconds / 6)
    more = [generated.target]
    environment = describe_environment()
    described = ", ".join(f"{name} {value}" for name, value in environment.items())
    console.print(described, highlight=False, soft_wrap=True)
    generate.render(generated, console)
    table.render(results, console, methods, markdown=markdown, more=more)
    if json_path is not None:
        written = table.to_json(results, environment, methods, more=more)
        _write(json_path, written | {"generate": generated._asdict()})
    return 0


def soak(calls: int, *, json_path: Path | None = None) -> int:
    """Make very many small inferences, and print what became of them.

    Returns:
        0, or 1 where an inference was neither recorded nor counted as dropped.
    """
    console, progress = _consoles()
    with progress.status(f"{calls:,} inferences", refresh_per_second=2):
        found = _in_own_process(endurance.run, calls)
    mib = [None if rss is None else round(rss / 2**20, 1) for rss in found.rss_bytes]
    console.print(
        f"{found.calls:,} inferences in {found.seconds:.1f} s "
        f"({found.calls / found.seconds:,.0f}/s)\n"
        f"finished {found.finished:,}, spans {found.spans:,}, dropped {found.dropped:,} "
        f"({'every one accounted for' if found.accounted else 'some are not accounted for'})\n"
        f"queue at most {found.queue_max:,} of {found.queue_size:,}\n"
        f"resident memory in MiB after each twentieth, which ends at full rate: {mib}",
        highlight=False,
        soft_wrap=True,
    )
    if json_path is not None:
        _write(json_path, {"environment": describe_environment(), "soak": found._asdict()})
    return 0 if found.accounted else 1


def _consoles(*, markdown: bool = False) -> tuple[Console, Console]:
    """For the result, and for progress."""
    console = Console()
    if markdown or not console.is_terminal:
        console = Console(width=_DOCUMENT_WIDTH if markdown else _FILE_WIDTH)
    return console, Console(stderr=True)


def _in_own_process(task: Callable[..., T], *arguments: Any) -> T:
    """Run in a new process: providers are global and can be set once only."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as executor:
        result = children.start_deaf(lambda: executor.submit(task, *arguments))
        try:
            return result.result()
        except KeyboardInterrupt:
            children.kill()
            raise


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead",
        description="Measure what an instrumented inference pays on this machine.",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=_SECONDS,
        help="how long to measure, all modes together (default: %(default)g)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"a look in {_QUICK_SECONDS:g} seconds, too short for figures to quote",
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print tables for a document, not a terminal"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument(
        "--soak",
        type=int,
        nargs="?",
        const=_SOAK_CALLS,
        metavar="N",
        help=f"instead: N inferences (default: {_SOAK_CALLS:,}), half of them at full rate, and "
        "what becomes of memory, queue and dropped ones",
    )
    return parser
