"""Starts the process of the export helper."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# Isolated from what the environment and the working directory could bring in, and without site,
# which would run the startup hooks of every package. The package's own __init__ is not run: it
# would import what the helper has no use for.
_BOOTSTRAP = (
    "import sys,types;p=types.ModuleType('warpspan');p.__path__=[sys.argv[1]];"
    "sys.modules['warpspan']=p;from warpspan.export.helper import main;main()"
)


def spawn(channel: socket.socket, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a helper with its end of the channel as standard input."""
    package = str(Path(__file__).resolve().parent.parent)
    flags = ["-B"] if sys.dont_write_bytecode else []
    # What is sent to the whole process group, a Ctrl-C for one, is not meant for the helper: it
    # leaves when the channel ends. The mask is inherited.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", *flags, "-c", _BOOTSTRAP, package],
            stdin=channel.fileno(),
            stdout=subprocess.DEVNULL,
            env=dict(environ),
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def refusal() -> str | None:
    """Why no helper can be started here, before it is tried."""
    if os.name != "posix":
        return f"it needs a POSIX system, this is {sys.platform}"
    if getattr(sys, "frozen", False):
        return "the program is frozen"
    name = Path(sys.executable or "").name.lower()
    if not name.startswith(("python", "pypy")):
        return f"sys.executable is {sys.executable!r}, not a Python interpreter"
    return None
