"""The answer before the tables: a sentence for each model, where the time went, what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from warpspan.advisor.ledger import Idle, Ledger
from warpspan.advisor.rule import SURE_FROM
from warpspan.advisor.verdict import Advice, Cause, Confidence, Finding, Unknown, Verdict
from warpspan.records.units import digits, plural, printable, seconds, share

_WHOLE = 3
"""So many verdicts are shown whole, of the others only the sentence."""
_SENTENCES = 7
_DEVICES = 4
_BAR = 60
_NARROWEST_BAR = 20
_MARGIN = 2


class _Slice(NamedTuple):
    """A part of the bar: what it is called, and how it looks with and without colours."""

    name: str
    sign: str
    plain_sign: str
    style: str


_BUSY = _Slice("busy", "█", "#", "green")
_TRANSFER = _Slice("copies alone", "▓", "=", "yellow")
_IDLE = {
    Idle.LAUNCH: _Slice("launch gaps", "▞", "l", "red"),
    Idle.SYNC: _Slice("waits", "▚", "w", "magenta"),
    Idle.BETWEEN_STEPS: _Slice("between steps", "▒", "s", "blue"),
    Idle.REQUEST_WAIT: _Slice("requests wait", "░", "r", "red"),
    Idle.NO_DEMAND: _Slice("no demand", "·", ".", "dim"),
    Idle.OTHER: _Slice("other idle", "-", "-", "dim"),
}


def render_advice(advice: Advice, console: Console) -> RenderableType:
    """Verdicts, most time first, and under the first one the ledgers of the devices."""
    parts: list[RenderableType] = []
    for at, verdict in enumerate(advice.verdicts[:_WHOLE]):
        parts.append(Text(printable(verdict.sentence), "bold"))
        if at == 0:
            parts += _ledgers(advice.ledgers, console)
        parts += [*(_indented(part) if part else Text() for part in _body(verdict)), Text()]
    others = advice.verdicts[_WHOLE:]
    parts += [Text(printable(verdict.sentence)) for verdict in others[:_SENTENCES]]
    if len(others) > _SENTENCES:
        count = plural(len(others) - _SENTENCES, "verdict")
        parts.append(Text(f"{count} more, of less time each (--json has them)", "dim"))
    if others:
        parts.append(Text())
    return Group(*parts)


def _indented(renderable: RenderableType) -> Padding:
    return Padding(renderable, (0, 0, 0, _MARGIN), expand=False)


def _ledgers(ledgers: Sequence[Ledger], console: Console) -> Iterator[RenderableType]:
    plain = not (console.encoding or "").lower().startswith("utf")
    room = min(max(console.width - _MARGIN, _NARROWEST_BAR), _BAR)
    for ledger in ledgers[:_DEVICES]:
        yield from map(_indented, _bar(ledger, room, plain=plain))
    if (rest := len(ledgers) - _DEVICES) > 0:
        yield _indented(Text(f"and {plural(rest, 'more device')} (--json has them)", "dim"))


def _bar(ledger: Ledger, width: int, *, plain: bool) -> list[RenderableType]:
    place = ledger.device.type
    if ledger.device.ordinal is not None:
        place += f":{ledger.device.ordinal}"
    title = Text.assemble((f"{place} ", "bold"), f"{seconds(ledger.elapsed_s)} observed")
    held = _slices(ledger)
    if not held:
        title.append(": when it was busy is not known")
        return [title]
    bar, legend = Text(), Text()
    for (one, time_s), cells in zip(
        held, _cells([time_s for _, time_s in held], width), strict=True
    ):
        sign = one.plain_sign if plain else one.sign
        bar.append(sign * cells, one.style)
        part = share(time_s / ledger.elapsed_s)
        # A name, its share and its sign stay together on a narrow terminal.
        label = f"{one.name} {part}".replace(" ", "\N{NO-BREAK SPACE}")
        legend.append("  " if legend else "")
        legend.append(sign, one.style)
        legend.append(f"\N{NO-BREAK SPACE}{label}")
    return [title, bar, legend]


def _slices(ledger: Ledger) -> list[tuple[_Slice, float]]:
    """Those that have any time; busy without the copies that are shown beside it."""
    if ledger.busy_s is None or not ledger.elapsed_s:
        return []
    alone_s = ledger.transfer_alone_s or 0.0
    parts = [
        (_BUSY, ledger.busy_s - alone_s),
        (_TRANSFER, alone_s),
        *((one, ledger.idle_s[reason] or 0.0) for reason, one in _IDLE.items()),
    ]
    return [(one, time_s) for one, time_s in parts if time_s > 0.0005 * ledger.elapsed_s]


def _cells(times_s: Sequence[float], width: int) -> list[int]:
    """A bar's cells by time, at least one each, that fill it."""
    whole = sum(times_s)
    cells = [max(round(time_s / whole * width), 1) for time_s in times_s]
    cells[cells.index(max(cells))] += width - sum(cells)
    return cells


def _body(verdict: Verdict) -> Iterator[RenderableType | None]:
    """The parts under the sentence; None is an empty line."""
    told = verdict.bottlenecks[0].id != Cause.CANT_TELL
    for finding in verdict.bottlenecks:
        if finding.id != Cause.CANT_TELL:
            yield None
            yield _finding(verdict, finding)
    if verdict.findings or not (told or verdict.cant_tell):
        yield None
    if not (told or verdict.cant_tell):
        yield Text(printable(verdict.bottlenecks[0].what))
    for finding in verdict.findings:
        yield _also(finding)
    if verdict.cant_tell:
        yield None
    for unknown in verdict.cant_tell:
        yield _unknown(unknown, style="dim" if told else "")
    if verdict.warm_up_count:
        count = plural(verdict.warm_up_count, "inference")
        yield Text(f"Set aside as warm-up: {count} at the start.", "dim")


def _finding(verdict: Verdict, finding: Finding) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, style="bold", vertical="top")
    grid.add_column(overflow="fold")
    part = "" if finding.share is None else f" {share(finding.share)}"
    grid.add_row("why", Text(printable(finding.what)))
    grid.add_row("do", Text(printable(finding.advice)))
    if finding.ceiling_gain is not None and finding.ceiling_gain >= 1.01:
        grid.add_row("gain", Text(f"at most {digits(finding.ceiling_gain)} times as fast"))
    grid.add_row("check", Text(printable(finding.check)))
    grid.add_row("sure?", Text(_how_sure(verdict, finding)))
    rules = "; ".join(threshold.name for threshold in finding.thresholds)
    grid.add_row("rule", Text(f"{finding.id}{part}: {rules}", "dim"))
    return grid


def _how_sure(verdict: Verdict, finding: Finding) -> str:
    count = plural(verdict.inference_count, "inference")
    if finding.confidence == Confidence.SURE:
        return f"yes, from {count}"
    if verdict.inference_count < SURE_FROM.value:
        return f"possible, from {count} (sure from {SURE_FROM.value:.0f} on)"
    return "possible: a value in it is estimated, or counts the work of others, too"


def _also(finding: Finding) -> Text:
    return Text.assemble(
        ("also ", "bold"), printable(f"{finding.id.replace('_', ' ')}: {finding.what}"), " ",
        (printable(finding.advice), "dim"),
    )  # fmt: skip


def _unknown(unknown: Unknown, style: str) -> Text:
    cause = "" if unknown.id == Cause.CANT_TELL else f" ({unknown.id.replace('_', ' ')})"
    return Text(
        printable(f"Not known{cause}: {unknown.missing}. To know it, {unknown.how}."), style
    )
