"""A summary as tables for a terminal, or plain text where there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from warpspan.records.units import plural, printable, rate, seconds, size
from warpspan.report.blocks import ABSENT, blocks
from warpspan.report.columns import columns, memory, name
from warpspan.report.leaks import Leak
from warpspan.report.summary import Row, Summary


def render(summary: Summary, console: Console) -> RenderableType:
    """The headline, the rows and their footnotes.

    One table where the console is wide enough for it, else as many as it takes.
    """
    table = [column for column in columns(summary.rows) if column.has_value]
    notes = [Text(leak_sentence(leak), "bold red") for leak in summary.leaks]
    absent = any(cell is None for column in table for cell in column.cells)
    notes += _footnotes(summary.rows, absent=absent)
    return Group(
        _headline(summary), Text(), *blocks(table, console), *([Text()] if notes else []), *notes
    )


def leak_sentence(leak: Leak) -> str:
    """Which model's KV caches are not released, since when, and how much they hold."""
    model, held = printable(leak.model), size(leak.size_bytes)
    since = "" if leak.since is None else f" since {leak.since}"
    each = ""
    if leak.per_inference_bytes is not None:
        each = f", growing {size(round(leak.per_inference_bytes))} per inference"
    what = (
        f"one KV cache of {model} has grown{since} without being cut or released. It now holds {held}"
        if leak.caches == 1
        else f"{model} has released no KV cache{since}. {leak.caches:,} caches now hold {held}"
    )
    return f"Possible leak: {what}{each} (leak score {leak.score:.2f})."


def _headline(summary: Summary) -> Text:
    line = Text()
    line.append(plural(summary.inference_count, "inference"), "bold")
    line.append(f" in {seconds(summary.elapsed_s)}")
    if summary.process_count > 1:
        line.append(f", {summary.process_count:,} processes")
    if summary.error_count:
        line.append(", ")
        line.append(f"{summary.error_count:,} failed", "red")
    return line


def _footnotes(rows: Sequence[Row], *, absent: bool) -> list[Text]:
    """What the columns that are shown lack in some rows, and what needs more than a number."""
    notes = []
    needs = "; ".join(
        sentence
        for sentence, values in _NEEDS.items()
        if any(len({value(row) is None for row in rows}) == 2 for value in values)
    )
    if absent:
        notes.append(f"{ABSENT} = not measured.")
    if needs:
        notes[-1] += f" {needs[0].upper()}{needs[1:]}."
    for row in rows:
        notes += _waiting_note(row)
        notes += _throttle_note(row)
    errors: Counter[str] = Counter()
    for row in rows:
        errors.update(row.errors)
    if errors:
        listed = ", ".join(f"{printable(name)} {count:,}" for name, count in errors.items())
        notes.append(f"Failed: {listed}.")
    return [Text(note, "dim") for note in notes]


#: What a value needs, and the values that need it.
_NEEDS: dict[str, tuple[Callable[[Row], object], ...]] = {
    "device time needs CUDA or ROCm": (lambda row: row.device_time_s,),
    "memory needs CUDA, ROCm or a CPU": (memory,),
    "batch size needs a tensor input": (lambda row: row.batch_size,),
    "sequence length needs token ids or embeddings": (lambda row: row.sequence_length,),
    "rate, idle share and first call need at least two inferences": (
        lambda row: row.rate_per_s,
        lambda row: row.idle_share,
    ),
}


def _waiting_note(row: Row) -> list[str]:
    """How often a row's inferences wait and for what, and the place with the most time."""
    sums = row.waiting
    if sums is None or not sums.sync_count:
        return []
    kinds = ", ".join(
        f"{kind} {rate(count / sums.inference_count)}" for kind, count in sums.sync_kinds.items()
    )
    note = f"{name(row)} waits per call: {kinds}."
    if sums.sync_site is not None and sums.sync_site_time_s is not None:
        waited = f"{seconds(sums.sync_site_time_s)} of {seconds(sums.sync_time_s)}"
        note += f" {waited} at {sums.sync_site}."
    return [printable(note)]


def _throttle_note(row: Row) -> list[str]:
    """Why the GPU was throttled, and in how many of a row's inferences."""
    if row.costs is None or not row.costs.throttle_reasons:
        return []
    reasons = ", ".join(
        f"{printable(reason.replace('_', ' '))} {count:,}"
        for reason, count in row.costs.throttle_reasons.items()
    )
    return [f"{name(row)} while the GPU was throttled: {reasons}."]
