"""Runs a command with the virtual GPU: `python -m virtual_gpu [--devices N] -- command …`."""

from __future__ import annotations

import argparse
import os
import sys

from virtual_gpu import UnbuildableError, environment

parser = argparse.ArgumentParser(prog="virtual_gpu", description=__doc__)
parser.add_argument("--devices", type=int, default=1)
parser.add_argument("--memory-bytes", type=int, default=None)
parser.add_argument("command", nargs="+")
options = parser.parse_args()
try:
    environ = environment(options.devices, options.memory_bytes)
except UnbuildableError as reason:
    sys.exit(f"virtual GPU: {reason}.")
os.execvpe(options.command[0], options.command, environ)
