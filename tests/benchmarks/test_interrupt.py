"""Ctrl-C in a benchmark that measures in processes of its own."""

import sys

from tests.support.interrupt import interrupt_while_it_reads


def test_a_benchmark_with_a_child(tmp_path):
    """The child, which the signal of a terminal reaches as well, says nothing and ends, too."""
    program = """
import sys
from pathlib import Path
from benchmarks.overhead.command import _in_own_process
try:
    _in_own_process(Path.read_text, Path(sys.argv[1]))
except KeyboardInterrupt:
    sys.exit(5)
"""
    fifo = tmp_path / "file"
    assert (5, "") == interrupt_while_it_reads(fifo, sys.executable, "-c", program, fifo)
