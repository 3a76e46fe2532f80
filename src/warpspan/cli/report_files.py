"""The files that `warpspan report` writes beside what it prints."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from warpspan.records.units import size
from warpspan.report.html import Page, render_html
from warpspan.report.perfetto import write_perfetto


class CannotWriteError(Exception):
    """A file can't be written; a sentence says why."""


class Files(NamedTuple):
    """Where to write, None for not at all.

    Args:
        html: the page.
        perfetto: the trace for Perfetto.
    """

    html: Path | None = None
    perfetto: Path | None = None

    def trouble(self, source: str) -> str | None:
        """Why these can't be written beside the file that is read; None where they can."""
        chosen = [path.resolve() for path in self if path is not None]
        if source != "-" and Path(source).resolve() in chosen:
            return f"{source} is the file to read: choose another name to write to"
        if len(set(chosen)) < len(chosen):
            return "--html and --perfetto need two files"
        return None


NO_FILES = Files()


def write_files(files: Files, page: Page) -> None:
    """Write what was asked for, and say so on standard error.

    Raises:
        CannotWriteError: a file can't be written.
    """
    if files.html is not None:
        _write(files.html, render_html(page))
    if files.perfetto is not None:
        try:
            with files.perfetto.open("w", encoding="utf-8") as stream:
                write_perfetto(page.observation, stream)
        except OSError as error:
            raise _cannot(files.perfetto, error) from error
        _say(files.perfetto, "open it in https://ui.perfetto.dev")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _cannot(path, error) from error
    _say(path, "open it in a browser")


def _say(path: Path, what: str) -> None:
    with suppress(OSError):
        print(f"wrote {path} ({size(path.stat().st_size)}): {what}", file=sys.stderr)


def _cannot(path: Path, error: OSError) -> CannotWriteError:
    return CannotWriteError(f"can't write {path}: {error.strerror or error}")
