"""Ctrl-C, as a terminal sends it."""

from __future__ import annotations

import os
import signal
import subprocess


def interrupt_while_it_reads(fifo, *command):
    """Start a program in a process group of its own, and press Ctrl-C when it waits for a file."""
    os.mkfifo(fifo)
    started = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with fifo.open("w"):  # which waits for the reader
        os.killpg(started.pid, signal.SIGINT)
        said = started.communicate(timeout=60)[1]
    return started.returncode, said
