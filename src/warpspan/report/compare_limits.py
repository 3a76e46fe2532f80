"""The limits of `warpspan compare --fail-on`: a small closed language, and what breaks them."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from warpspan.records.enums import StrEnum
from warpspan.report.compare import Change, Compared
from warpspan.report.compare_figures import RATE_NAME, UNITS
from warpspan.report.compare_stats import Statistic

_FORM = re.compile(
    r"(?P<name>\w+)\s*(?P<sign>[<>]=?)\s*(?P<change>[+\-\N{MINUS SIGN}]?)\s*"
    r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[^\d\s]\S*)?"
)
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_EXAMPLE = "'device_time_p50 > +5%'"


class LimitError(Exception):
    """The expression is none; a sentence says what is wrong with it."""


class State(StrEnum):
    """What became of a limit; `unknown` where its figure was not measured in both runs."""

    HELD = "held"
    BROKEN = "broken"
    UNKNOWN = "unknown"


class Limit(NamedTuple):
    """A limit: it is broken where its comparison is true.

    Args:
        expression: as it was given.
        name: figure and statistic.
        sign: of the comparison.
        bound: a share for `relative`, else a value in the unit of the figure.
        relative: whether the change is compared as a share of the value before.
        difference: whether the change is compared, and not the value after.
    """

    expression: str
    name: str
    sign: str
    bound: float
    relative: bool
    difference: bool

    def reached(self, change: Change) -> bool | None:
        """Whether the comparison is true of a change, None where there is no share."""
        value: float | None = change.values.after
        if self.relative:
            value = change.values.change
        elif self.difference:
            value = change.values.after - change.values.before
        return None if value is None else _SIGNS[self.sign](value, self.bound)


class Checked(NamedTuple):
    """What became of a limit, and in one sentence why."""

    limit: Limit
    state: State
    reason: str

    def to_json(self) -> dict[str, Any]:
        """What `warpspan compare --json` prints of it; its keys are stable."""
        return {
            "expression": self.limit.expression,
            "state": self.state.value,
            "reason": self.reason,
        }


def parse_limit(expression: str) -> Limit:
    """A limit out of `FIGURE_STATISTIC > BOUND`.

    The bound is `+5%` (the change as a share of the value before), `+3ms` (the change) or `50ms`
    (the value after). The comparisons are `>`, `>=`, `<` and `<=`. The figure `rate` has no
    statistic.

    Raises:
        LimitError: it is none.
    """
    said = f"--fail-on {expression!r}: "
    found = _FORM.fullmatch(expression.strip())
    if found is None:
        raise LimitError(
            f"{said}write a figure, one of > >= < <=, and a bound, for example {_EXAMPLE}"
        )
    name, unit = found["name"], found["unit"] or ""
    figure, _, statistic = (name, "", "") if name == RATE_NAME else name.rpartition("_")
    if name != RATE_NAME and (figure not in UNITS or statistic not in set(Statistic)):
        raise LimitError(f"{said}there is no figure {name}{_nearest(name)}")
    multiples = UNITS[figure].multiples
    relative = unit == "%"
    if relative and not found["change"]:
        raise LimitError(
            f"{said}a share needs its sign: +{found['number']}% for a rise by so much, "
            f"-{found['number']}% for a fall"
        )
    if not relative and unit not in multiples:
        known = ", ".join(one for one in ("%", *multiples) if one)
        raise LimitError(f"{said}{unit or 'no unit'} is no unit of {name}; its units are {known}")
    bound = float(found["number"]) * (0.01 if relative else multiples[unit])
    return Limit(
        expression,
        name,
        found["sign"],
        bound if found["change"] in {"", "+"} else -bound,
        relative,
        difference=bool(found["change"]),
    )


def check(limits: Iterable[Limit], compared: Compared) -> list[Checked]:
    """What became of each limit over all rows.

    A change that is not shown (see `compare_stats.compare`) breaks no limit of a change; a limit of
    the value after has no noise. A limit whose figure no row has is unknown.
    """
    return [_check(limit, compared) for limit in limits]


def _check(limit: Limit, compared: Compared) -> Checked:
    broken: list[str] = []
    noisy: list[str] = []
    known = False
    for row in compared.rows:
        change = row.change(limit.name)
        reached = None if change is None else limit.reached(change)
        if change is None or reached is None:
            continue
        known = True
        if reached:
            said = f"{row.name} {_said(change)}{', of too few for an interval' * change.values.few}"
            shown = change.values.shown != 0 or not limit.difference
            (broken if shown else noisy).append(said)
    if broken:
        return Checked(limit, State.BROKEN, "; ".join(broken))
    if noisy:
        return Checked(limit, State.HELD, f"within the noise: {'; '.join(noisy)}")
    if known:
        return Checked(limit, State.HELD, "not reached")
    reason = f"{limit.name} was not measured in both runs for any operation and model"
    return Checked(limit, State.UNKNOWN, reason)


def _said(change: Change) -> str:
    before, after = (change.unit.form(value) for value in change.values[:2])
    share = change.values.change
    return f"{before} → {after}" + ("" if share is None else f" ({signed_share(share)})")


def signed_share(value: float) -> str:
    """A change in percent, with its sign: `+5.2%`, `-38%`, `0.0%`."""
    digits = 0 if abs(value) >= 0.0995 else 1
    said = f"{value:+,.{digits}%}"
    return said[1:] if not said.strip("+-0.%") else said


def _nearest(name: str) -> str:
    known = [
        f"{figure}_{statistic}"
        for figure in UNITS
        if figure != RATE_NAME
        for statistic in Statistic
    ]
    near = difflib.get_close_matches(name, [*known, RATE_NAME], n=1)
    if near:
        return f"; did you mean {near[0]}?"
    figures = ", ".join(one for one in UNITS if one != RATE_NAME)
    return f"; figures are {RATE_NAME} and {figures}, each with _{', _'.join(Statistic)}"
