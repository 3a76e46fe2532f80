"""Plots of a benchmark and its report as one HTML file, by matplotlib (extra `bench`)."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warpspan.kernels.bench.correctness import Check
from warpspan.kernels.bench.rows import OURS, BenchRow, verdict
from warpspan.kernels.bench.table import CHECK_COLUMNS, COLUMNS, check_cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MISSING = "Plots need matplotlib: pip install 'warpspan[bench]'"
# One colour a provider, from a palette that is told apart by colour-blind readers (Okabe, Ito).
COLOURS = {
    "eager": "#999999",
    "eager-native": "#555555",
    "compile": "#56B4E9",
    "compile-max-autotune": "#0072B2",
    "triton": "#D55E00",
    "liger": "#009E73",
    "flashinfer": "#CC79A7",
    "tensorrt": "#E69F00",
}


class MissingMatplotlibError(Exception):
    """matplotlib is not installed; the message says how to install it."""


def figure(rows: Sequence[BenchRow]) -> Figure:
    """The roofline of all operations above, speed-up by shape of each below.

    Raises:
        MissingMatplotlibError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingMatplotlibError(MISSING) from None
    timed = [row for row in rows if row.device_p50_s is not None and row.cache == "cold"]
    ops = list(dict.fromkeys(row.op for row in timed))
    figure = Figure(figsize=(11, 5 + 3 * len(ops)), layout="constrained")
    axes = figure.subplots(1 + len(ops), 1, squeeze=False, height_ratios=[5.0] + [3.0] * len(ops))[
        :, 0
    ]
    _roofline(axes[0], timed)
    for axis, op in zip(axes[1:], ops, strict=True):
        _speedups(axis, op, [row for row in timed if row.op == op])
    return figure


def _roofline(axis: Axes, rows: Sequence[BenchRow]) -> None:
    """Achieved FLOP/s over minimum intensity, under the measured copy's bandwidth."""
    for provider in dict.fromkeys(row.provider for row in rows):
        points = [
            (row.flops / row.minimum_bytes, row.flops / row.device_p50_s)
            for row in rows
            if row.provider == provider and row.flops and row.minimum_bytes and row.device_p50_s
        ]
        if points:
            intensity, achieved = zip(*points, strict=True)
            colour = COLOURS.get(provider)
            axis.scatter(intensity, achieved, s=22, label=provider, color=colour)
    ceilings = [row.ceiling_bytes_per_s for row in rows if row.ceiling_bytes_per_s]
    intensities = [row.flops / row.minimum_bytes for row in rows if row.flops and row.minimum_bytes]
    if ceilings and intensities:
        ends = min(intensities) / 2, max(intensities) * 2
        ceiling = max(ceilings)
        label = f"copy measured in this run: {ceiling / 1e12:.2f} TB/s"
        axis.plot(ends, [ceiling * x for x in ends], color="black", label=label)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="FLOP per minimum byte",
        ylabel="FLOP/s",
        title="Roofline (cold)",
    )
    if rows:
        # Beside the plot, and for all of them: a provider has one colour throughout.
        axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axis.grid(alpha=0.3)


def _speedups(axis: Axes, op: str, rows: Sequence[BenchRow]) -> None:
    """Bars of device time of eager divided by each provider's, by shape and dtype."""
    groups = list(dict.fromkeys((row.shape, row.dtype) for row in rows))
    shown = [p for p in dict.fromkeys(row.provider for row in rows) if p != "eager"]
    width = 0.8 / max(1, len(shown))
    for place, provider in enumerate(shown):
        bars = [
            (groups.index((row.shape, row.dtype)) + (place + 0.5) * width - 0.4, row.speedup)
            for row in rows
            if row.provider == provider and row.speedup is not None
        ]
        if bars:
            at, heights = zip(*bars, strict=True)
            axis.bar(at, heights, width, label=provider, color=COLOURS.get(provider))
    axis.axhline(1.0, color="black", linewidth=0.8)
    axis.set(title=op, ylabel="speed-up over eager")
    dtypes = {dtype for _, dtype in groups}
    labels = [shape if len(dtypes) == 1 else f"{shape}\n{dtype}" for shape, dtype in groups]
    axis.set_xticks(range(len(groups)), labels, fontsize="x-small", rotation=20, ha="right")
    axis.grid(axis="y", alpha=0.3)


def save(path: Path, rows: Sequence[BenchRow]) -> None:
    """Write the plots to a .png or .svg file.

    Raises:
        MissingMatplotlibError: matplotlib is not installed.
    """
    figure(rows).savefig(path, dpi=150)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }}
table {{ border-collapse: collapse; font-size: 12px; margin: .5rem 0 2rem; display: block;
  overflow-x: auto; }}
th, td {{ padding: .2rem .5rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }}
.rows th:nth-child(-n+4), .rows td:nth-child(-n+4) {{ text-align: left; }}
.correctness th:nth-child(-n+2), .correctness td:nth-child(-n+2) {{ text-align: left; }}
tr.ours td {{ font-weight: 600; }}
svg {{ max-width: 100%; height: auto; }}
</style></head><body>
<h1>{title}</h1>
<p>{environment}</p>
{tables}
{plots}
</body></html>
"""


def page(checks: Sequence[Check], rows: Sequence[BenchRow], environment: dict[str, Any]) -> str:
    """Tables, verdicts and plots as one HTML file that loads nothing from elsewhere.

    Raises:
        MissingMatplotlibError: matplotlib is not installed.
    """
    tables = [_table("correctness", CHECK_COLUMNS, check_cells(checks))]
    for op in dict.fromkeys(row.op for row in rows):
        of_op = [row for row in rows if row.op == op]
        cells = [[cell(row) for _, cell in COLUMNS] for row in of_op]
        tables.append(f"<h2>{html.escape(op)}</h2><p>{html.escape(verdict(of_op))}</p>")
        tables.append(_table("rows", [header for header, _ in COLUMNS], cells))
    facts = ", ".join(f"{name} {value}" for name, value in environment.items() if value is not None)
    return _PAGE.format(
        title="Fused kernels",
        environment=html.escape(facts),
        tables="".join(tables),
        plots=_svg(rows) if any(row.device_p50_s is not None for row in rows) else "",
    )


def _table(kind: str, headers: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(header)}</th>" for header in headers)
    body = "".join(
        f'<tr class="{"ours" if {*OURS} & {*row} else ""}">'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in cells
    )
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _svg(rows: Sequence[BenchRow]) -> str:
    drawing = io.StringIO()
    figure(rows).savefig(drawing, format="svg", metadata={"Date": None})
    svg = drawing.getvalue()
    return svg[svg.index("<svg") :]
