"""The parts of the page that are text: verdicts, ledgers, tables. Every value in them is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from html import escape

from warpspan.advisor.ledger import Idle, Ledger
from warpspan.advisor.verdict import RULES, Advice, Cause, Evidence, Finding, Unknown, Verdict
from warpspan.records import Inference
from warpspan.records.units import digits, plural, printable, rate, seconds, share, size
from warpspan.report.blocks import ABSENT
from warpspan.report.summary import Row, Summary

SLOWEST = 20
_SEGMENTS = {
    "busy": "busy",
    "transfer": "copies alone",
    **{reason.value: reason.value.replace("_", " ") for reason in Idle},
}


def text(value: str) -> str:
    """Text as HTML shows it: names come from spans, and must not be markup."""
    return escape(printable(value), quote=True)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table of text that scrolls on its own where it is too wide; the first column has names."""
    head = "".join(f'<th scope="col">{text(heading)}</th>' for heading in headings)
    body = "".join(
        f'<tr><th scope="row">{text(cells[0])}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in cells[1:])
        + "</tr>"
        for cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}">'
        f'<table><caption class="hidden">{text(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def section(title: str, identity: str, *parts: str) -> str:
    """A part of the page with its heading, nothing where it is empty."""
    inside = "".join(parts)
    if not inside:
        return ""
    return (
        f'<section aria-labelledby="{identity}"><h2 id="{identity}">{text(title)}</h2>'
        f"{inside}</section>"
    )


def header(name: str, summary: Summary, first_ns: int) -> str:
    """What ran, when, and how much of it."""
    begin = datetime.fromtimestamp(first_ns / 1e9, timezone.utc)
    facts = [
        (plural(summary.inference_count, "inference"), f"in {seconds(summary.elapsed_s)}"),
        (str(summary.process_count), "process" if summary.process_count == 1 else "processes"),
        (f"{summary.error_count:,}", "failed"),
        (f"{begin:%Y-%m-%d %H:%M:%S} UTC", "start"),
    ]
    listed = "".join(
        f"<div><dt>{text(what)}</dt><dd>{text(value)}</dd></div>" for value, what in facts
    )
    return (
        f'<header><p class="brand">warpspan</p><h1>{text(name)}</h1><dl class="facts">{listed}</dl>'
        "</header>"
    )


def verdicts(advice: Advice) -> str:
    """A card for each operation and model."""
    return "".join(map(_verdict, advice.verdicts))


def _verdict(one: Verdict) -> str:
    also = "".join(_finding(finding) for finding in one.findings)
    unknown = "".join(map(_unknown, one.cant_tell))
    unknown = unknown and f"<ul>{unknown}</ul>"
    warm_up = (
        f'<p class="note">{plural(one.warm_up_count, "inference")} at the start set aside as warm-up.</p>'
        if one.warm_up_count
        else ""
    )
    first = one.bottlenecks[0]
    kind = "unknown" if first.id is Cause.CANT_TELL else first.confidence.value
    named = (finding for finding in one.bottlenecks if finding.id is not Cause.CANT_TELL)
    return (
        f'<article class="card verdict {kind}"><h3>{text(one.sentence)}</h3>'
        f"{''.join(map(_finding, named))}"
        + _details(plural(len(one.findings), "further finding"), also)
        + _details("What can't be told", unknown, shown=kind == "unknown")
        + f"{warm_up}</article>"
    )


def _details(summary: str, inside: str, *, shown: bool = False) -> str:
    """What is folded away, nothing where it is empty."""
    if not inside:
        return ""
    return f"<details{' open' * shown}><summary>{text(summary)}</summary>{inside}</details>"


def _finding(one: Finding) -> str:
    badges = [f'<span class="badge id">{text(one.id.value.replace("_", " "))}</span>']
    badges.append(f'<span class="badge {one.confidence.value}">{text(one.confidence.value)}</span>')
    if one.share is not None:
        badges.append(f'<span class="badge">{text(share(one.share))} of the time</span>')
    if one.ceiling_gain is not None and one.ceiling_gain >= 1.01:
        badges.append(f'<span class="badge">at most {digits(one.ceiling_gain)} × as fast</span>')
    evidence = "".join(
        f"<div><dt>{text(_label(name))}</dt><dd>{text(_evidence(name, value))}</dd></div>"
        for name, value in one.evidence.items()
    )
    return (
        f'<div class="finding"><h4 class="badges">{"".join(badges)}</h4>'
        f"<p>{text(one.what)}</p><p><strong>Do:</strong> {text(one.advice)}</p>"
        f'<p><strong>Check:</strong> {text(one.check)}</p><dl class="evidence">{evidence}</dl></div>'
    )


def _unknown(one: Unknown) -> str:
    cause = "" if one.id is Cause.CANT_TELL else f"{one.id.value.replace('_', ' ')}: "
    return f"<li>{text(f'{cause}{one.missing}. To know it, {one.how}.')}</li>"


def _label(name: str) -> str:
    """What a value is, without the unit that the value has."""
    return name.removesuffix("_s").removesuffix("_bytes").replace("_", " ")


def _evidence(name: str, value: Evidence) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(value)
    if name.endswith("_s"):
        return seconds(value) if value >= 0 else f"-{seconds(-value)}"
    if "share" in name.split("_"):
        return share(value)
    if name.endswith("_bytes") and value >= 0:
        return size(round(value))
    return f"{value:,}" if isinstance(value, int) else digits(value)


def ledgers(held: Sequence[Ledger]) -> str:
    """Where the time of each device went, as a bar and as a table."""
    return "".join(map(_ledger, held))


def _ledger(one: Ledger) -> str:
    place = (
        one.device.type if one.device.ordinal is None else f"{one.device.type}:{one.device.ordinal}"
    )
    title = f"{place}, {seconds(one.elapsed_s)} observed"
    parts = ledger_parts(one)
    if not parts:
        return (
            f'<div class="ledger"><h3>{text(title)}</h3><p>When it was busy is not known.</p></div>'
        )
    shares = [(name, time_s, time_s / one.elapsed_s) for name, time_s in parts]
    bar = "".join(
        f'<span class="part {name}" style="flex-grow:{part:.6f}" title="{text(_SEGMENTS[name])} {share(part)}"></span>'
        for name, _, part in shares
    )
    legend = "".join(
        f'<li><span class="swatch {name}"></span>{text(_SEGMENTS[name])} <b>{share(part)}</b> {text(seconds(time_s))}</li>'
        for name, time_s, part in shares
    )
    said = ", ".join(f"{_SEGMENTS[name]} {share(part)}" for name, _, part in shares)
    return (
        f'<div class="ledger"><h3>{text(title)}</h3>'
        f'<div class="bar" role="img" aria-label="{text(f"{title}: {said}")}">{bar}</div>'
        f'<ul class="legend">{legend}</ul></div>'
    )


def ledger_parts(one: Ledger) -> list[tuple[str, float]]:
    """Seconds by what the device did; they add up to the observed time. Empty where not known."""
    if one.busy_s is None or one.elapsed_s <= 0:
        return []
    alone_s = one.transfer_alone_s or 0.0
    parts = [("busy", one.busy_s - alone_s), ("transfer", alone_s)]
    parts += [(reason.value, one.idle_s[reason] or 0.0) for reason in Idle]
    return [(name, time_s) for name, time_s in parts if time_s > 0]


def rows(held: Sequence[Row]) -> str:
    """The table of `warpspan report`."""
    if not held:
        return ""
    return table(
        ("inference", "count", "failed", "rate", "duration p50", "p95", "p99", "device time p50", "idle",
         "memory max", "batch p50/max", "KV cache max"),
        map(_row, held),
        "Inferences by operation and model",
    )  # fmt: skip


def _row(one: Row) -> tuple[str, ...]:
    peak = one.rss_max_bytes if one.memory_peak_bytes is None else one.memory_peak_bytes
    batch = one.batch_size
    return (
        f"{one.operation} {one.model or ''}".rstrip(),
        f"{one.inference_count:,}",
        f"{sum(one.errors.values()):,}",
        ABSENT if one.rate_per_s is None else f"{rate(one.rate_per_s)}/s",
        *(seconds(value) for value in one.duration_s),
        ABSENT if one.device_time_s is None else seconds(one.device_time_s.p50),
        ABSENT if one.idle_share is None else share(one.idle_share),
        ABSENT if peak is None else size(peak) + (" RSS" if one.memory_peak_bytes is None else ""),
        ABSENT if batch is None else f"{batch.median:,}/{batch.max:,}",
        ABSENT if one.kv_cache_max_bytes is None else size(one.kv_cache_max_bytes),
    )


def slowest(inferences: Iterable[Inference]) -> str:
    """The slowest ones, with the ids that find their traces in a backend."""
    held = sorted(inferences, key=lambda one: -one.duration_s)[:SLOWEST]
    return table(
        ("inference", "duration", "device time", "queue", "batch", "sequence", "at the same time", "error",
         "trace id", "span id"),
        (
            (
                f"{one.operation} {one.model.name or ''}".rstrip(),
                seconds(one.duration_s),
                *(
                    ABSENT if value is None else seconds(value)
                    for value in (one.timing.device_time_s, one.timing.queue_time_s)
                ),
                *(
                    ABSENT if value is None else f"{value:,}"
                    for value in (one.input.batch_size, one.input.sequence_length, one.timing.concurrency)
                ),
                one.error_type or "",
                one.trace_id or ABSENT,
                one.span_id or ABSENT,
            )
            for one in held
        ),
        "The slowest inferences",
    ) if held else ""  # fmt: skip


def environment(inferences: Sequence[Inference], remarks: Sequence[str], version: str) -> str:
    """Models, devices and processes, and what the file lacks."""
    models = {one.model.name or ABSENT: one.model for one in inferences}
    devices = {(one.device.type, one.device.ordinal, one.device.id) for one in inferences}
    facts: list[tuple[str, str]] = []
    for name, model in models.items():
        known = [
            *([] if model.parameter_count is None else [f"{model.parameter_count:,} parameters"]),
            *([] if model.parameter_bytes is None else [size(model.parameter_bytes)]),
            *([] if model.dtype is None else [model.dtype]),
            *([] if model.quantization is None else [model.quantization]),
            *(["compiled"] if model.compiled else []),
        ]
        facts.append((f"model {name}", ", ".join(known) or ABSENT))
    for kind, ordinal, identity in sorted(devices, key=str):
        facts.append(
            (f"device {kind}{'' if ordinal is None else f':{ordinal}'}", identity or ABSENT)
        )
    facts += [
        ("process", process) for process in sorted({one.process for one in inferences}) if process
    ]
    facts.append(("report", f"warpspan {version}, rules version {RULES}"))
    notes = "".join(f"<li>{text(remark)}</li>" for remark in remarks)
    return table(("what", "value"), facts, "Environment") + (f"<ul>{notes}</ul>" if notes else "")


def thresholds(advice: Advice) -> str:
    """The numbers that findings were compared with."""
    found = {
        (finding.id.value.replace("_", " "), limit.name, limit.origin)
        for verdict in advice.verdicts
        for finding in (*verdict.bottlenecks, *verdict.findings)
        for limit in finding.thresholds
    }
    return table(("finding", "limit", "origin"), sorted(found), "Thresholds") if found else ""
