"""One line of `warpspan doctor`."""

from __future__ import annotations

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
