"""The trace of a capture as a file to open: with its inferences marked, compressed, and not too many."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from warpspan.deep.figures import Figures, Member

KEPT = 100
"""Traces of this process that stay in the directory."""

_EVENTS = b'"traceEvents": ['
_CHUNK_BYTES = 1 << 20


class TraceFolder:
    """Where the traces of this process are kept. The oldest ones make room.

    Args:
        path: the directory; made when the first trace comes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._kept: deque[Path] = deque()

    def next(self) -> Path:
        """Path of a trace that comes now, as TensorBoard wants it to be called."""
        return self._path / f"warpspan_{os.getpid()}.{time.time_ns() // 1_000_000}.pt.trace.json.gz"

    def keep(self, source: Path, path: Path, members: Sequence[Member], figures: Figures) -> None:
        """Put a trace where it stays, with its inferences as annotations in it.

        Args:
            source: what the profiler wrote.
            path: of `next`.
            members: the inferences in it.
            figures: what was read of it.

        Raises:
            OSError: the directory can't be written.
        """
        self._path.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.tmp")
        with source.open("rb") as raw, gzip.open(unfinished, "wb", compresslevel=1) as packed:
            head = raw.read(_CHUNK_BYTES)
            before, found, after = head.partition(_EVENTS)
            packed.write(before + found)
            if found:
                for event in marks(members, figures):
                    packed.write(json.dumps(event).encode() + b",\n")
            packed.write(after)
            while chunk := raw.read(_CHUNK_BYTES):
                packed.write(chunk)
        unfinished.replace(path)
        self._kept.append(path)
        while len(self._kept) > KEPT:
            self._kept.popleft().unlink(missing_ok=True)


def marks(members: Sequence[Member], figures: Figures) -> list[dict[str, Any]]:
    """The inferences as events of a trace; with the ids of their spans, which lead back."""
    events = []
    for member, thread in zip(members, figures.threads, strict=True):
        process, _, number = (thread or f"{os.getpid()}/{os.getpid()}").partition("/")
        ids = {"trace_id": member.trace_id, "span_id": member.span_id} if member.span_id else {}
        events.append(
            {
                "ph": "X",
                "cat": "user_annotation",
                "name": member.name,
                "pid": int(process),
                "tid": int(number),
                "ts": (member.start_ns - figures.epoch_ns) / 1e3,
                "dur": (member.end_ns - member.start_ns) / 1e3,
                "args": ids,
            }
        )
    return events
