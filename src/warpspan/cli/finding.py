"""One line of `warpspan doctor`, and the log lines that stand in its place elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """What was found.

    Args:
        state: `ok`, `note` (neither good nor bad), `warning` (something is absent), `error`.
        subject: what was looked at.
        said: what works, or what does not.
        fix: what to do, or nothing.
    """

    state: Literal["ok", "note", "warning", "error"]
    subject: str
    said: str
    fix: str = ""


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep what warpspan logs off the screen: the command says it itself."""
    logger = logging.getLogger("warpspan")
    handler, propagates = logging.NullHandler(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)
