"""Inferences of one block of a program, rendered as a report in a terminal or a notebook."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from warpspan.records import Inference
from warpspan.records.skips import describe
from warpspan.records.units import plural
from warpspan.report.summary import Summary, summarize
from warpspan.report.text import render

#: Inferences that a recording keeps, about 2 kB each. Further ones are counted.
LIMIT = 10_000
_HTML = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:normal;'
    "font-family:Menlo,'DejaVu Sans Mono',consolas,monospace\">{code}</pre>"
)
_HTML_WIDTH = 120


class Recording:
    """The inferences of a block, and their report.

    `print(...)`, rich's `print` and a notebook's cell show the report, also while the block runs.

    Attributes:
        further: inferences beyond `LIMIT`, which are not in the report.
        skipped: calls in the block that were no inference, by reason.
    """

    def __init__(self) -> None:
        self._taken: list[Inference] = []
        self.further = 0
        self.skipped: dict[str, int] = {}

    def add(self, span: Any, record: Inference) -> None:  # noqa: ARG002 - as subscribers are called
        """Take a finished inference."""
        if len(self._taken) < LIMIT:
            self._taken.append(record)
        else:
            self.further += 1

    @property
    def inferences(self) -> tuple[Inference, ...]:
        """The records, in the order in which the inferences were finished."""
        return tuple(self._taken)

    @property
    def summary(self) -> Summary:
        """One row per operation and model."""
        return summarize(self.inferences)

    def to_json(self) -> dict[str, Any]:
        """What `warpspan report --json` prints of inferences; its keys are stable."""
        return {
            **self.summary.to_json(),
            "skipped": self.skipped,
            "further_inference_count": self.further,
        }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._parts(console)

    def __repr__(self) -> str:
        console = Console(file=io.StringIO(), width=_HTML_WIDTH, color_system=None)
        with console.capture() as captured:
            console.print(self)
        return captured.get().rstrip("\n")

    def _repr_html_(self) -> str:
        console = Console(
            file=io.StringIO(),
            record=True,
            width=_HTML_WIDTH,
            force_jupyter=False,
            color_system=None,
        )
        console.print(self)
        return console.export_html(inline_styles=True, code_format=_HTML)

    def _repr_mimebundle_(self, **_: Iterable[str] | None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def _parts(self, console: Console) -> Iterable[RenderableType]:
        summary = self.summary
        if not summary.rows:
            yield Text("No inference was recorded.", "bold")
        else:
            yield render(summary, console)
        if self.further:
            further = plural(self.further, "further inference")
            yield Text(f"The first {LIMIT:,} are shown; {further} were counted.", "dim")
        if calls := describe(self.skipped):
            yield Text(f"{calls}.", "dim")
