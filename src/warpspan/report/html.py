"""A run as one page: verdicts, ledgers, distributions, a timeline and tables, without a network.

Text and tables are HTML, so that they can be read without a script; charts are drawn by uPlot 1.6.32
(`page/vendor`, MIT) from the numbers in the page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Any, NamedTuple

from warpspan.advisor.fit import Fit, fit, least_company, size_of, unit_of
from warpspan.advisor.observation import Observation
from warpspan.advisor.subject import subjects
from warpspan.advisor.verdict import Advice
from warpspan.records import Inference
from warpspan.records.units import plural, seconds
from warpspan.report import html_parts as parts
from warpspan.report.html_data import (
    LANES_MAX,
    POINTS_MAX,
    Timeline,
    batch_points,
    histogram,
    over_time,
    start_ns,
    timeline,
)
from warpspan.report.summary import Summary
from warpspan.report.tracks import tracks

_UPLOT = "vendor/uPlot.iife.min.js"
_UPLOT_STYLE = "vendor/uPlot.min.css"
_UPLOT_LICENSE = "vendor/uPlot-LICENSE.txt"
#: Inferences that a distribution needs to be one.
LEAST_FOR_BARS = 5
#: Rows that have charts; the table has all.
ROWS_MAX = 12


class Page(NamedTuple):
    """What the page shows.

    Args:
        name: of the file, or of what else was observed.
        summary: the rows of the table.
        advice: verdicts and ledgers.
        observation: the inferences, requests and samples behind them.
        remarks: what a reader has to know of the file, a sentence each.
        version: of warpspan.
    """

    name: str
    summary: Summary
    advice: Advice
    observation: Observation
    remarks: Sequence[str]
    version: str


def render_html(page: Page) -> str:
    """The whole page as one document."""
    observation = page.observation
    groups = tracks(observation, details=False)
    first_ns = start_ns(groups)
    drawn, charts = timeline(groups, first_ns), over_time(groups, first_ns)
    distributions = _distributions(page)
    batches = _batches(observation)
    body = [
        parts.header(page.name, page.summary, first_ns),
        "<main>",
        parts.section("What holds it back", "verdicts", parts.verdicts(page.advice)),
        parts.section("Where the time went", "ledger", parts.ledgers(page.advice.ledgers)),
        parts.section("Inferences", "rows", parts.rows(page.summary.rows)),
        parts.section(
            "Distributions",
            "distributions",
            _charts("distribution", [one["title"] for one in distributions], _said(distributions)),
        ),
        parts.section("Timeline", "timeline", _timeline(drawn)),
        parts.section(
            "Memory and device over time",
            "over-time",
            _charts("over-time", [one["title"] for one in charts], [_over_time_said(charts)]),
        ),
        parts.section(
            "Time by batch",
            "batches",
            _charts("batch", [one["title"] for one in batches], [one["said"] for one in batches]),
        ),
        parts.section("Slowest inferences", "slowest", parts.slowest(observation.inferences)),
        parts.section(
            "Environment",
            "environment",
            parts.environment(observation.inferences, page.remarks, page.version),
        ),
        parts.section("Thresholds", "thresholds", parts.thresholds(page.advice)),
        "</main>",
    ]
    data = {
        "distributions": distributions,
        "timeline": {
            "lanes": drawn.lanes,
            "names": drawn.names,
            "from_us": drawn.from_us,
            "elapsed_us": drawn.elapsed_us,
        },
        "overTime": charts,
        "batches": batches,
    }
    return Template(_asset("page.html")).substitute(
        title=parts.text(f"{page.name} · warpspan"),
        style=_asset(_UPLOT_STYLE) + _asset("page.css"),
        body="".join(body),
        data=script_json(data),
        charts=f"/*!\n{_asset(_UPLOT_LICENSE)}*/\n{_asset(_UPLOT)}",
        script=_asset("page.js"),
    )


def script_json(data: Any) -> str:
    """JSON that ends no script: a name from a span may hold `</script>`."""
    written = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return (resources.files("warpspan.report") / "page" / name).read_text(encoding="utf-8")


def _charts(kind: str, titles: Sequence[str], said: Sequence[str]) -> str:
    """Places that the script draws in, and in words what they show."""
    figures = "".join(
        f'<figure class="chart"><figcaption>{parts.text(title)}</figcaption>'
        f'<div class="plot" data-kind="{kind}" data-index="{number}" role="img" '
        f'aria-label="{parts.text(title)}"></div></figure>'
        for number, title in enumerate(titles)
    )
    notes = "".join(f'<p class="note">{parts.text(note)}</p>' for note in said if note)
    return f'<div class="charts">{figures}</div>{notes}' if titles else ""


def _distributions(page: Page) -> list[dict[str, Any]]:
    """Of each row with enough of them, the durations and the device times that were kept."""
    held: dict[tuple[str, str | None, str], list[Inference]] = {}
    for one in page.observation.inferences:
        held.setdefault((one.operation, one.model.name, one.device.type), []).append(one)
    charts = []
    for row in page.summary.rows[:ROWS_MAX]:
        inferences = held.get((row.operation, row.model, row.device_type), [])
        if len(inferences) < LEAST_FOR_BARS:
            continue
        times = [one.timing.device_time_s for one in inferences]
        known = [value for value in times if value is not None]
        charts.append(
            {
                "title": f"{row.operation} {row.model or ''}".rstrip(),
                "duration": histogram([one.duration_s for one in inferences]),
                "device": histogram(known) if known else None,
            }
        )
    return charts


def _said(distributions: Sequence[dict[str, Any]]) -> list[str]:
    if not distributions:
        return []
    return ["Inferences by duration and by device time, on a logarithmic axis; all of them count."]


def _over_time_said(charts: Sequence[dict[str, Any]]) -> str:
    if not charts:
        return ""
    return f"Of each of at most {POINTS_MAX:,} parts of the time, the highest value."


def _timeline(drawn: Timeline) -> str:
    if not drawn.lanes:
        return ""
    said = [
        "Drag to zoom in, double-click to see all. With the keyboard: arrow keys move, + and - zoom, "
        "Home shows all."
    ]
    shown_s = (drawn.elapsed_us - drawn.from_us) / 1e6
    if drawn.from_us:
        said.append(
            f"To keep the page small, this is the last {seconds(shown_s)} of "
            f"{seconds(drawn.elapsed_us / 1e6)}: {drawn.slice_count:,} of {drawn.all_count:,} slices."
        )
    if drawn.hidden_count:
        hidden = plural(drawn.hidden_count, "slice")
        said.append(f"{hidden} beyond {LANES_MAX} at the same time are not drawn.")
    buttons = "".join(
        f'<button type="button" data-zoom="{action}" aria-label="{label}">{sign}</button>'
        for action, label, sign in (
            ("in", "zoom in", "+"),
            ("out", "zoom out", "\N{MINUS SIGN}"),
            ("left", "earlier", "\N{LEFTWARDS ARROW}"),
            ("right", "later", "\N{RIGHTWARDS ARROW}"),
            ("all", "show all", "all"),
        )
    )
    notes = "".join(f'<p class="note">{parts.text(note)}</p>' for note in said)
    return (
        f'<div class="toolbar" role="toolbar" aria-label="timeline">{buttons}</div>'
        '<div class="plot timeline" data-kind="timeline" data-index="0" tabindex="0" role="application" '
        f'aria-label="Timeline of {len(drawn.lanes)} lanes over {seconds(shown_s)}; arrow '
        'keys move, plus and minus zoom"></div>'
        f'<p class="readout" aria-live="polite"></p>{notes}'
    )


def _batches(observation: Observation) -> list[dict[str, Any]]:
    """Of each subject with several sizes of input, its times and the line through them.

    The times are those that the line is made of: without warm-up, and of inferences that overlapped
    those with the least company.
    """
    charts = []
    for subject in subjects(observation)[1]:
        if not subject.inferences:
            continue
        unit = unit_of(subject.inferences)
        alone = least_company(subject.inferences, subject.company)
        points = batch_points(alone, lambda one, unit=unit: size_of(one, unit))  # type: ignore[misc]
        if len(points) < 2:
            continue
        line = fit(subject.inferences, subject.company)
        operation, model, _ = subject.key
        name = f"{operation} {model or ''}".rstrip()
        charts.append(
            {
                "title": f"{name}: time by {unit}",
                "unit": unit,
                "points": [list(point) for point in points],
                "line": None if line is None else [line.fixed_s, line.each_s],
                "said": f"{name}: {_fit_said(line, unit)}",
            }
        )
    return charts[:ROWS_MAX]


def _fit_said(line: Fit | None, unit: str) -> str:
    if line is None:
        return "too few sizes for a line."
    each = "token" if unit == "tokens" else "sample"
    return (
        f"{seconds(line.fixed_s)} for each inference and {seconds(line.each_s)} for each {each}; the fixed "
        f"part is {line.fixed_share:.0%} at the median of {line.middle:,.0f}. Points are medians, whiskers "
        "5th to 95th percentiles."
    )
