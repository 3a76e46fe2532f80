"""The start of a helper: whatever goes wrong on the way, nothing stays behind and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from warpspan.export import wire
from warpspan.export.channel import Channel
from warpspan.export.spawn import Process

# These run between the decision to start a helper and the first byte that it is sent.
STEPS = {
    Channel._start_helper.__code__,
    Process.__init__.__code__,
    Process.start.__code__,
}


def children() -> set[int]:
    """Processes that this one has, also those that ended and were not waited for."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        found.update(map(int, (task / "children").read_text().split()))
    return found


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Raising:
    """Raises at the nth line of the start.

    Args:
        nth: counted from 0.
        error: what it raises.
    """

    def __init__(self, nth: int, error: type[BaseException]) -> None:
        self._left = nth
        self._error = error
        self.raised = False

    def __call__(self, frame, event, argument):
        return self._line if frame.f_code in STEPS else None

    def _line(self, frame, event, argument):
        if event == "line" and not self.raised:
            if self._left == 0:
                self.raised = True
                raise self._error("injected")
            self._left -= 1
        return self._line


def start_with(tracer) -> Channel:
    """A channel whose helper was started under a trace function."""
    channel = Channel(os.environ)
    channel.attach(wire.TRACES)
    batch = channel.open(wire.TRACES)
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        channel.add(batch, b"x", 1, last=True)
    finally:
        sys.settrace(before)
    return channel


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("error", [TypeError, KeyboardInterrupt])
def test_a_failure_at_each_step(receiver, error):
    """Our own are a reason to export without a helper; others reach the program. Nothing stays."""
    before, opened = children(), descriptors()
    steps = 0
    while True:
        tracer = Raising(steps, error)
        channel = None
        try:
            channel = start_with(tracer)
        except error:
            assert error is KeyboardInterrupt
        if not tracer.raised:
            break
        if channel is not None:
            assert channel.broken == "TypeError: injected"
            assert [1] == [batch.items for batch in channel.take(wire.TRACES)]
        assert (before, opened) == (children(), descriptors()), f"step {steps}"
        steps += 1
    channel.detach(wire.TRACES, 0.0)
    assert before == children()
    assert steps > 20


def test_a_popen_that_another_library_replaced(receiver, monkeypatch):
    """The helper starts under gevent, whose Popen and os.posix_spawn want its own event loop."""

    def refuse(*_, **__):
        raise TypeError("child watchers are only available on the default loop")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    for name in ("fork", "posix_spawn", "waitpid"):
        monkeypatch.setattr(os, name, refuse)
    channel = start_with(None)
    assert (None, True) == (channel.broken, channel.helper_pid in children())
    channel.detach(wire.TRACES, 0.0)
    assert None is channel.helper_pid


def test_a_helper_that_another_library_waited_for(receiver):
    """A loop that reaps every child of the process takes nothing from us but the exit code."""
    channel = start_with(None)
    pid = channel.helper_pid
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    channel.detach(wire.TRACES, 0.0)
    assert (None, False) == (channel.helper_pid, pid in children())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_a_helper_holds_nothing_of_its_parent(receiver, tmp_path):
    """Descriptors that a library made inheritable, a listening socket say, end with the program."""
    inherited = os.open(tmp_path / "inherited", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(inherited, True)
    channel = start_with(None)
    folder = Path(f"/proc/{channel.helper_pid}/fd")
    try:
        wait_until(
            lambda: str((folder / "0").readlink()) == os.devnull
        )  # it has taken over its channel
        held = {str(entry.readlink()) for entry in folder.iterdir() if entry.is_symlink()}
        assert str(tmp_path / "inherited") not in held
    finally:
        os.close(inherited)
        channel.detach(wire.TRACES, 0.0)


def test_the_mask_and_the_group_of_a_helper(receiver):
    """It stays in its group and blocks every signal; ours are as they were."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    channel = start_with(None)
    status = Path(f"/proc/{channel.helper_pid}/status").read_text()
    blocked = next(int(line.split()[1], 16) for line in status.splitlines() if "SigBlk" in line)
    wanted = sum(1 << (number - 1) for number in signal.valid_signals() - {9, 19})
    assert (before, os.getpgrp(), wanted) == (
        signal.pthread_sigmask(signal.SIG_BLOCK, set()),
        os.getpgid(channel.helper_pid),
        blocked & wanted,
    )
    channel.detach(wire.TRACES, 0.0)
