"""How a command ends that can't go on."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from warpspan.export.notes import Processes

INSTALL = "pip install warpspan"
_WRAP = (
    "warpspan saw no call of a PyTorch module. Wrap compiled functions and engines in "
    "`warpspan.inference()` to record them."
)


def cause(status: int, processes: Processes) -> str:
    """Why a program recorded no inference, by how its processes began and ended.

    Args:
        status: its exit code, or the negative number of the signal that ended it.
        processes: those of them in which warpspan was.
    """
    if not processes.began:
        return (
            "No Python with warpspan ran in it: the program is none, it ignores PYTHONPATH "
            "(`python -I`, `-E`), or OpenTelemetry could not start."
        )
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return (
            f"{name} ended the program before it exported what it had; what is older than a second "
            "would be in the file."
        )
    if processes.ended < processes.began:
        return (
            "The program left by `os._exit` or was replaced by another one, which skips the export: "
            "call `warpspan.flush()` before."
        )
    if not processes.with_torch:
        return "The program never imported torch."
    return _WRAP


def interrupted() -> NoReturn:
    """Say that the user ended the command, and exit as shells expect it."""
    print("warpspan: interrupted", file=sys.stderr)
    sys.exit(130)
