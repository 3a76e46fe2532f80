"""The command `warpspan`."""

from __future__ import annotations

import sys

INSTALL = "pip install 'warpspan[cli]'"


def main() -> None:
    """Run the command line, or say what to install for it."""
    try:
        from warpspan.cli.app import app
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == "warpspan":
            raise
        print(f"warpspan: the command line needs {missing.name}: {INSTALL}", file=sys.stderr)
        sys.exit(2)
    app()
