"""The command `warpspan`."""

from __future__ import annotations

import sys

from warpspan.cli.ending import INSTALL, interrupted


def main() -> None:
    """Run the command line, or say what is missing for it. Ctrl-C ends it with exit code 130."""
    try:
        from warpspan.cli.app import app

        app(prog_name="warpspan")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == "warpspan":
            raise
        print(f"warpspan: the command line needs {missing.name}: {INSTALL}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # while it was still being imported
        interrupted()
