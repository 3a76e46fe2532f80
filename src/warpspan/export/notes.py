"""How the processes of `warpspan run` began and ended, noted beside its file, which has the spans.

A program that recorded nothing leaves nothing in the file that could say why. Each process that
Python started notes that it began, and at its exit whether torch was imported; one that left by
`os._exit` or was killed has noted no end. Only where `warpspan run` made the file of the notes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from warpspan import forks

_SUFFIX = ".processes"
_noted: set[str] = set()


class Processes(NamedTuple):
    """What the notes say.

    Args:
        began: processes that began.
        ended: those that ended as Python does, so that they exported everything.
        with_torch: those of them that had imported torch.
    """

    began: int
    ended: int
    with_torch: int


def path(file: str) -> Path:
    """Where the notes are, beside a file."""
    return Path(file + _SUFFIX)


def take_part(file: str) -> None:
    """Note that this process began, and its end; once, where notes are wanted."""
    notes = str(path(file).absolute())
    if notes in _noted or not Path(notes).exists():
        return
    _noted.add(notes)
    pid = os.getpid()

    def end() -> None:
        if os.getpid() == pid:  # a fork has its parent's exit handlers
            _append(notes, {"pid": pid, "ended": True, "torch": "torch" in sys.modules})

    _append(notes, {"pid": pid, "ended": False})
    forks.join(at_exit=end)


def read(lines: Iterable[str]) -> Processes:
    """The last note of each process; one that became another program began anew."""
    last = {note["pid"]: note for note in map(json.loads, lines)}
    ended = [note for note in last.values() if note["ended"]]
    return Processes(len(last), len(ended), sum(note["torch"] for note in ended))


def _append(notes: str, note: dict[str, object]) -> None:
    try:
        descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return  # `warpspan run` is over, or the disk is full
    try:
        os.write(descriptor, (json.dumps(note) + "\n").encode())  # whole, as all appends
    except OSError:
        pass
    finally:
        os.close(descriptor)
