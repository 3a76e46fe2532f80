"""A child process that can't be told from one that the shell started itself."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

_FORWARDED = tuple(
    signal.Signals[name]
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)  # Windows has few of them
)
_SI_KERNEL = 0x80
_LOOK_S = 0.5


class CannotRunError(Exception):
    """The program does not start. `code` is the exit code that a shell would give."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def check_system() -> None:
    """Find out whether this system can start and watch a program as `run` does.

    Raises:
        CannotRunError: it can't (Windows); the message says what works there.
    """
    if not hasattr(os, "posix_spawn") or not hasattr(signal, "pthread_sigmask"):
        raise CannotRunError(
            f"`warpspan run` needs a POSIX system, and this is {sys.platform}: set "
            "OTEL_TRACES_EXPORTER=warpspan_file, OTEL_METRICS_EXPORTER=warpspan_file and "
            "OTEL_PYTHON_WARPSPAN_FILE to the name of a file, start the program with "
            "`opentelemetry-instrument`, and read the file with `warpspan report`",
            2,
        )


def find(command: str, path: str | None) -> str:
    """The executable file that a shell would start.

    Raises:
        CannotRunError: there is none (127), or it may not be executed (126).
    """
    if found := shutil.which(command, path=path):
        return found
    if os.sep in command:
        candidates = [Path(command)]
    else:
        candidates = [Path(folder) / command for folder in (path or "").split(os.pathsep)]
    existing = next((candidate for candidate in candidates if candidate.exists()), None)
    if existing is not None:
        kind = "is a directory" if existing.is_dir() else "is not executable"
        raise CannotRunError(f"can't run {existing}: it {kind}{_hint(command)}", 126)
    raise CannotRunError(f"can't run {command}: command not found{_hint(command)}", 127)


def run(program: str, command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a program to its end, with every signal that this process gets, and wait for it.

    The program stays in this process group, so that the terminal's Ctrl-C and Ctrl-Z reach it as
    they would without us; signals that someone sent to this process alone are passed on to it.

    Returns:
        Its exit code, or the negative number of the signal that ended it.

    Raises:
        CannotRunError: it could not be started.
    """
    before = signal.signal(signal.SIGCHLD, lambda *_: None)  # the default drops it on macOS
    # What was ignored when we started (nohup) stays ignored, here and in the program.
    passed = {sent for sent in _FORWARDED if signal.getsignal(sent) != signal.SIG_IGN}
    # Blocked and fetched one by one: no handler runs, and each signal tells who sent it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*passed, signal.SIGCHLD})
    try:
        child = _start(program, command, environ, mask)
        while True:
            number, from_terminal = _next_signal({*passed, signal.SIGCHLD})
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if number != signal.SIGCHLD and not from_terminal:
                os.kill(child, number)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGCHLD, before)


def exit_like(status: int) -> NoReturn:
    """End this process as the program ended: with its exit code, or by the same signal."""
    if status >= 0:
        sys.exit(status)
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # Windows has none

        # The program has dumped its core; ours would take its place.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    with contextlib.suppress(OSError):  # SIGKILL has no handler to take away
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    sys.exit(128 - status)


def _start(
    program: str,
    command: Sequence[str],
    environ: Mapping[str, str],
    mask: set[int | signal.Signals],
) -> int:
    try:
        return os.posix_spawn(
            program,
            list(command),
            environ,
            setsigmask=mask,
            # Python ignores these two, which the program would inherit.
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    except OSError as error:
        if error.errno == errno.ENOENT:
            message = f"can't run {program}: the interpreter in its first line does not exist"
            raise CannotRunError(message, 127) from error
        reason = (error.strerror or str(error)).lower()
        raise CannotRunError(f"can't run {program}: {reason}", 126) from error


def _next_signal(signals: set[signal.Signals]) -> tuple[int, bool]:
    """The next signal, and whether the terminal sent it, so that the program got it as well."""
    if hasattr(signal, "sigtimedwait"):
        # Another thread of this process, which some library started, may be given our SIGCHLD.
        info = signal.sigtimedwait(signals, _LOOK_S)
        if info is None:
            return signal.SIGCHLD, False
        return info.si_signo, info.si_code == _SI_KERNEL
    # macOS does not tell who sent it.
    number = signal.sigwait(signals)
    return number, number in (signal.SIGINT, signal.SIGQUIT)


def _hint(command: str) -> str:
    return (
        f" (a script of Python: warpspan run -- python {command})"
        if command.endswith(".py")
        else ""
    )
