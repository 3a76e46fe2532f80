"""Bars and sparklines of one line."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"
#: What a sparkline shows.
SECONDS = 60
_HIGH, _FULL = 0.7, 0.9


def bar(share: float | None, width: int) -> Text:
    """A share from 0 to 1 as a bar, green, yellow from 70 % and red from 90 %."""
    if share is None:
        return Text("", style="dim")
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    signs = "█" * whole + (_EIGHTHS[rest] if rest else "")
    color = "red" if share >= _FULL else "yellow" if share >= _HIGH else "green"
    return Text.assemble((signs, color), ("·" * (width - len(signs)), "dim"))


def sparkline(values: Sequence[float | None], width: int, top: float | None = None) -> Text:
    """A minute as columns, each the mean of some seconds; a blank where there was no value.

    Args:
        values: one per second, oldest first, at most `SECONDS`.
        width: columns.
        top: what a full column stands for; by default the highest column that is shown.
    """
    seconds = SECONDS // width
    padded = [None] * (seconds * width - len(values)) + list(values)[-seconds * width :]
    means = [_mean(padded[at : at + seconds]) for at in range(0, len(padded), seconds)]
    highest = top or max((mean for mean in means if mean is not None), default=0.0)
    return Text("".join(_column(mean, highest) for mean in means), style="cyan")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _column(value: float | None, highest: float) -> str:
    if value is None:
        return " "
    level = round(value / highest * (len(_LEVELS) - 1)) if highest else 0
    return _LEVELS[min(max(level, 0), len(_LEVELS) - 1)]
