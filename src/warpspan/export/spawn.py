"""The process of the export helper: its start, its end, and nothing left of it in between."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

# Isolated from what the environment and the working directory could bring in, and without site,
# which would run the startup hooks of every package. The package's own __init__ is not run: it
# would import what the helper has no use for.
_BOOTSTRAP = (
    "import sys,types;p=types.ModuleType('warpspan');p.__path__=[sys.argv[1]];"
    "sys.modules['warpspan']=p;from warpspan.export.helper import main;main()"
)
# Only where the system has no descriptor for a process.
_POLL_S = 0.01
# A killed process ends at once, except in the middle of a call that the system can't interrupt.
_KILLED_S = 5.0


class Process:
    """A helper's process, started once.

    It is made before it is started, so that its owner has it in hands at any moment at which there
    is something to end. Python's own modules are not asked: libraries such as gevent replace
    `subprocess.Popen` and the functions of `os` by ones that need their event loop, and some wait
    for every child of the process, so that a number may already mean another one.
    """

    def __init__(self) -> None:
        #: Its process id, while it is not known to have ended.
        self.pid: int | None = None
        self._descriptor: int | None = None

    def start(self, channel: socket.socket, environ: Mapping[str, str]) -> None:
        """Start it with its end of the channel as standard input.

        The system makes the process and executes Python in it in one call: between the two no code
        of this process runs. What else it inherits it closes itself.

        Raises:
            OSError: the system refuses.
            ValueError: a variable can't be handed over.
        """
        import posix  # not on Windows, where no helper is started

        package = str(Path(__file__).resolve().parent.parent)
        flags = ["-B"] if sys.dont_write_bytecode else []
        self.pid = posix.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", *flags, "-c", _BOOTSTRAP, package],
            dict(environ),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, channel.fileno(), 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            ],
            # What is sent to the whole process group, a Ctrl-C for one, is not meant for the
            # helper: it leaves when the channel ends.
            setsigmask=signal.valid_signals(),
            # Python ignores these two, which the helper would inherit.
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
        with contextlib.suppress(AttributeError, OSError):  # not Linux, or refused
            self._descriptor = os.pidfd_open(self.pid)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False where time ran out."""
        deadline = time.monotonic() + timeout_s
        while not self._has_ended():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            if self._descriptor is None:
                time.sleep(min(_POLL_S, left_s))
            else:
                poll = select.poll()
                poll.register(self._descriptor, select.POLLIN)
                poll.poll(left_s * 1e3)
        return True

    def end(self, timeout_s: float) -> None:
        """Wait for its end, and make sure of it when the time is over."""
        if self.wait(timeout_s):
            return
        # Looked at just now: without a descriptor, its number is still its own.
        with contextlib.suppress(ProcessLookupError):
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            elif self.pid is not None:
                os.kill(self.pid, signal.SIGKILL)
        self.wait(_KILLED_S)

    def forget(self) -> None:
        """Let go of it: it ended, or it is the child of another process."""
        self.pid = None
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _has_ended(self) -> bool:
        if self.pid is None:
            return True
        import posix

        try:
            ended = posix.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # somebody else waited for it
            ended = True
        if ended:
            self.forget()
        return ended


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
