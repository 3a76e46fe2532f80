"""The check of what was recorded here: the latest file of `warpspan run`, and what it left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from warpspan.cli.finding import Finding
from warpspan.cli.report import CannotReportError, nothing, read
from warpspan.records.skips import describe
from warpspan.records.units import plural

# Read in about a second; larger ones are what `warpspan report` is for.
_MOST_BYTES = 16 << 20


def latest_run(environ: Mapping[str, str]) -> Iterator[Finding]:  # noqa: ARG001
    """What the latest file of `warpspan run` in this folder holds, and which calls it skipped."""
    files = sorted(Path().glob("warpspan-*.jsonl"), key=lambda file: file.stat().st_mtime_ns)
    if not files:
        return
    file = files[-1]
    if file.stat().st_size > _MOST_BYTES:
        yield Finding("note", "latest run", f"{file} is large", f"warpspan report {file}")
        return
    try:
        summary, reader, *_ = read(str(file))
    except CannotReportError as error:
        yield Finding("warning", "latest run", str(error))
        return
    skipped = describe(reader.skipped)
    if summary.rows:
        said = f"{file} has {plural(summary.inference_count, 'inference')}"
        yield Finding("ok", "latest run", f"{said}; {skipped}" if skipped else said)
    else:
        why = skipped or nothing(reader, str(file))
        yield Finding("warning", "latest run", f"{file} has no inference: {why}")
