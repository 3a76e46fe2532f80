"""The file of the exporter `warpspan_file`, to which any number of processes may append."""

from __future__ import annotations

import functools
import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

from warpspan.environment_variables import (
    OTEL_PYTHON_WARPSPAN_FILE,
    OTEL_PYTHON_WARPSPAN_FILE_LIMIT,
)

_logger = logging.getLogger("warpspan")

# As the table of options has it. A recorded inference takes about 1.3 kB.
_LIMIT_MIB = 1024


class LineAppender(io.TextIOBase):
    """Appends each text it is given by one write, until the file has its limit.

    The system keeps a write to a file opened with O_APPEND whole among all processes. A buffered
    file would break a line longer than its buffer (8 KiB; a batch of spans has hundreds) in two.
    """

    _descriptor: int | None = None

    def __init__(self, path: str, limit_bytes: int | None = None) -> None:
        self._path, self._limit_bytes = path, limit_bytes
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        self._descriptor = os.open(path, flags, 0o666)

    def write(self, text: str, /) -> int:
        """Append a text. Only a full disk or the like makes it more than one write."""
        if self._descriptor is None:
            raise ValueError("write to closed file")
        if (
            self._limit_bytes is not None
            and os.fstat(self._descriptor).st_size >= self._limit_bytes
        ):
            _warn_full(self._path, self._limit_bytes >> 20)
            return len(text)
        rest = memoryview(text.encode())
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        return len(text)

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:  # also called where the file could not be opened
            os.close(descriptor)
        super().close()


def path(environ: Mapping[str, str]) -> str:
    """The path of the file.

    Raises:
        ValueError: the environment names none.
    """
    chosen = environ.get(OTEL_PYTHON_WARPSPAN_FILE)
    if not chosen:
        raise ValueError(
            f"the exporter warpspan_file needs a file: set {OTEL_PYTHON_WARPSPAN_FILE}, "
            "or start the program with `warpspan run`"
        )
    return chosen


def limit_bytes(environ: Mapping[str, str]) -> int | None:
    """The size from which on nothing more is written; None without a limit."""
    try:
        chosen = int(environ.get(OTEL_PYTHON_WARPSPAN_FILE_LIMIT, ""))
    except ValueError:
        chosen = -1
    return ((chosen if chosen >= 0 else _LIMIT_MIB) << 20) or None


def is_writable(environ: Mapping[str, str]) -> bool:
    """Whether the file can be written, which makes it; else a warning has said why not."""
    with appender(environ) as stream:
        return isinstance(stream, LineAppender)


def appender(environ: Mapping[str, str]) -> IO[str]:
    """The file, or the null device where it can't be written."""
    chosen = path(environ)
    try:
        return cast("IO[str]", LineAppender(chosen, limit_bytes(environ)))
    except OSError as error:
        _warn(chosen, str(error.strerror))
        return Path(os.devnull).open("a", encoding="utf-8")


@functools.cache  # once, not for spans and for metrics
def _warn(chosen: str, reason: str) -> None:
    _logger.warning(
        "%s=%r can't be written (%s): give the path of a file in an existing folder. "
        "Nothing is recorded.",
        OTEL_PYTHON_WARPSPAN_FILE,
        chosen,
        reason,
    )


@functools.cache
def _warn_full(path: str, limit_mib: int) -> None:
    _logger.warning(
        "warpspan: %s has its limit of %s MiB: nothing more is recorded (%s)",
        path,
        limit_mib,
        OTEL_PYTHON_WARPSPAN_FILE_LIMIT,
    )
