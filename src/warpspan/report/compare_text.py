"""Two runs compared, as tables for a terminal and as Markdown for a pull request."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from warpspan.records.units import printable, share
from warpspan.report.blocks import ABSENT, Column, blocks
from warpspan.report.compare import Change, Compared, ComparedRow, Key, Outcome, Side
from warpspan.report.compare_limits import Checked, State, signed_share
from warpspan.report.compare_stats import LEAST_FOR_INTERVAL
from warpspan.report.compare_verdicts import moved_sentence

_OUTCOMES = {
    Outcome.BETTER: "better",
    Outcome.WORSE: "worse",
    Outcome.CHANGED: "changed",
    Outcome.SAME: "no change shown",
    Outcome.UNSURE: "too few to tell",
}
_STYLES = {Outcome.BETTER: "bold green", Outcome.WORSE: "bold red"}
#: The figures that the sentence of a row is about, the first one that there is.
_HEADLINES = ("device_time_p50", "duration_p50")
#: Figures of the input: where they change, the runs did different work.
_INPUTS = ("batch_size_mean", "sequence_length_mean")
_STATES = {State.HELD: "held", State.BROKEN: "BROKEN", State.UNKNOWN: "CAN'T TELL"}


def render_compared(
    compared: Compared, limits: Sequence[Checked], console: Console
) -> RenderableType:
    """A sentence and a table for each row, then the limits and what else a reader has to know."""
    parts: list[RenderableType] = []
    for row in compared.rows:
        parts.append(_headline(row))
        parts += [Text(sentence) for sentence in bottlenecks(row, compared)]
        parts.append(Text(counts(row), "dim"))
        changes = shown(row)
        if changes:
            parts += [Text(), *blocks(_columns(changes), console)]
        parts += [Text(sentence, "dim") for sentence in remarks(row)]
        parts.append(Text())
    for checked in limits:
        style = "" if checked.state is State.HELD else "bold red"
        parts.append(Text(printable(limit_sentence(checked)), style))
    parts += [Text(sentence, "dim") for sentence in left_over(compared)]
    parts.append(Text(FOOTNOTE, "dim"))
    return Group(*parts)


FOOTNOTE = (
    "Intervals are bootstrapped and hold the true change with 95% confidence. A change within its "
    "noise, or whose interval holds 0, is no change shown."
)


def markdown(compared: Compared, limits: Sequence[Checked], names: tuple[str, str]) -> str:
    """The same for a comment on a pull request."""
    lines = [f"### warpspan: {_cell(names[0])} → {_cell(names[1])}", ""]
    lines += [
        f"- {'✅' if checked.state is State.HELD else '❌'} {_cell(limit_sentence(checked))}"
        for checked in limits
    ]
    if limits:
        lines.append("")
    for row in compared.rows:
        lines += [f"**{_cell(sentence(row))}**", ""]
        for said in bottlenecks(row, compared):
            lines += [_cell(said), ""]
        lines += [_cell(counts(row)), ""]
        changes = shown(row)
        if changes:
            columns = _columns(changes)
            lines.append("| " + " | ".join(column.heading for column in columns) + " |")
            lines.append("|" + "|".join("---" if one.is_text else "--:" for one in columns) + "|")
            lines += [
                "| " + " | ".join(_cell(cell) for cell in cells) + " |"
                for cells in zip(*(column.cells for column in columns), strict=True)
            ]
            lines.append("")
        for remark in remarks(row):
            lines += [_cell(remark), ""]
    for remark in left_over(compared):
        lines += [_cell(remark), ""]
    return "\n".join([*lines, f"<sub>{FOOTNOTE}</sub>"])


def sentence(row: ComparedRow) -> str:
    """What the change of a row amounts to."""
    changes = [row.change(name) for name in _HEADLINES]
    first = next((change for change in changes if change is not None), None)
    if first is None:
        return f"{row.name}: nothing to compare."
    values = first.values
    name = first.title.removesuffix(" p50")
    before, after = first.unit.form(values.before), first.unit.form(values.after)
    if first.outcome is Outcome.SAME or values.change is None:
        return f"{row.name}: no change of the {name} is shown ({before} → {after})."
    word = "longer" if values.change > 0 else "shorter"
    few = " That is of too few inferences to be sure." if values.few else ""
    amount = signed_share(abs(values.change)).lstrip("+")
    return f"{row.name}: the {name} is {amount} {word} ({before} → {after}, median).{few}"


def bottlenecks(row: ComparedRow, compared: Compared) -> list[str]:
    """What became of the bottleneck of a row, where both runs have a verdict on it."""
    key = (row.operation, row.model)
    return [
        moved_sentence(one) for one in compared.bottlenecks if (one.operation, one.model) == key
    ]


def counts(row: ComparedRow) -> str:
    """How many inferences were compared, and which were not."""
    left_out = [
        f"{name}: {_left_out(side)}"
        for name, side in (("before", row.before), ("after", row.after))
        if _left_out(side)
    ]
    before, after = row.before.compared_count, row.after.compared_count
    said = f"{before:,} → {after:,} inferences compared"
    devices = [", ".join(side.device_types) for side in (row.before, row.after)]
    said += f" on {devices[0]}" if devices[0] == devices[1] else f" on {devices[0]} → {devices[1]}"
    return f"{said}; left out {'; '.join(left_out)}." if left_out else f"{said}."


def _left_out(side: Side) -> str:
    parts = [
        f"{count:,} {name}"
        for count, name in ((side.warm_up_count, "as warm-up"), (side.failed_count, "that failed"))
        if count
    ]
    return " and ".join(parts)


def shown(row: ComparedRow) -> list[Change]:
    """The changes that tables have."""
    return [change for change in row.changes if change.shown]


def remarks(row: ComparedRow) -> list[str]:
    """What a reader of a row's table has to know, a sentence each."""
    said = []
    for name in _INPUTS:
        change = row.change(name)
        if change is not None and change.outcome is Outcome.CHANGED:
            before, after = (change.unit.form(value) for value in change.values[:2])
            title = change.title.removesuffix(" mean")
            said.append(
                f"The inputs differ: the mean {title} went from {before} to {after}, so that "
                "changes are not of the program alone."
            )
    if min(row.before.compared_count, row.after.compared_count) < LEAST_FOR_INTERVAL:
        said.append(f"An interval needs {LEAST_FOR_INTERVAL} inferences in each run.")
    if row.missing:
        said.append(f"Measured in one run only: {', '.join(row.missing)}.")
    return said


def left_over(compared: Compared) -> list[str]:
    """What only one run has."""

    def said(name: str, keys: Sequence[Key]) -> list[str]:
        listed = ", ".join(f"{operation} {model or ''}".rstrip() for operation, model in keys)
        return [printable(f"Only {name}: {listed}.")] if keys else []

    return [*said("before", compared.only_before), *said("after", compared.only_after)]


def limit_sentence(checked: Checked) -> str:
    """What became of a limit."""
    return f"{checked.limit.expression}: {_STATES[checked.state]} ({checked.reason})."


def _headline(row: ComparedRow) -> Text:
    changes = [row.change(name) for name in _HEADLINES]
    first = next((change for change in changes if change is not None), None)
    return Text(printable(sentence(row)), _STYLES.get(first.outcome, "bold") if first else "bold")


def _columns(changes: Sequence[Change]) -> list[Column]:
    def cells(of: Callable[[Change], str]) -> list[str]:
        return [of(change) for change in changes]

    return [
        Column("figure", cells(lambda one: one.title), is_text=True),
        Column("before", cells(lambda one: one.unit.form(one.values.before))),
        Column("after", cells(lambda one: one.unit.form(one.values.after))),
        Column("change", cells(_change)),
        Column("95% interval", cells(_interval)),
        Column("noise", cells(lambda one: f"±{share(one.values.noise)}")),
        Column("", cells(lambda one: _OUTCOMES[one.outcome]), is_text=True),
    ]


def _change(one: Change) -> str:
    return ABSENT if one.values.change is None else signed_share(one.values.change)


def _interval(one: Change) -> str:
    low, high = one.values.low, one.values.high
    if low is None or high is None:
        return ABSENT
    return f"{signed_share(low)} … {signed_share(high)}"


def _cell(value: str) -> str:
    """Text that Markdown shows as it is."""
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", printable(value))
    return escaped.replace("&", "&amp;").replace("\\<", "&lt;").replace("\\>", "&gt;")
