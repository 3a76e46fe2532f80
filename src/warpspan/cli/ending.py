"""How a command ends that can't go on."""

from __future__ import annotations

import sys
from typing import NoReturn

INSTALL = "pip install warpspan"


def interrupted() -> NoReturn:
    """Say that the user ended the command, and exit as shells expect it."""
    print("warpspan: interrupted", file=sys.stderr)
    sys.exit(130)
