"""`warpspan doctor`: checks this machine and prints fixes for the problems found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from warpspan import __version__
from warpspan.cli import (
    doctor_captures,
    doctor_device,
    doctor_export,
    doctor_names,
    doctor_runs,
    doctor_software,
)
from warpspan.cli.finding import Finding, unlogged
from warpspan.cli.report import output_console
from warpspan.config import environment
from warpspan.records.units import plural

_SIGNS = {
    "ok": ("✓", "green"),
    "note": ("·", "dim"),
    "warning": ("!", "yellow"),
    "error": ("✗", "red"),
}
# Where a terminal's encoding has no such signs, in which colours may be absent as well.
_ASCII_SIGNS = {"ok": "ok", "note": "note", "warning": "WARN", "error": "ERROR"}
_ASCII = str.maketrans({"→": "->", "×": "x", "…": "...", "–": "-", "°": " "})
_CHECKS: tuple[Callable[[Mapping[str, str]], Iterable[Finding]], ...] = (
    doctor_software.torch_build,
    doctor_device.nvml,
    doctor_device.other_profilers,
    doctor_software.instrumentation,
    doctor_software.settings,
    doctor_captures.captures,
    doctor_names.names,
    doctor_export.exporters,
    doctor_names.frameworks,
    doctor_software.conflicts,
    doctor_runs.latest_run,
)


def examine(environ: Mapping[str, str]) -> list[Finding]:
    """All findings. A check that fails is a finding as well."""
    found: list[Finding] = []
    for check in _CHECKS:
        try:
            found += check(environ)
        except Exception as error:
            name = check.__name__.replace("_", " ")
            found.append(Finding("error", name, f"could not be checked: {error}"))
    return found


def doctor(*, as_json: bool) -> bool:
    """Print what was found; whether nothing is broken."""
    with unlogged():
        found = examine(environment())
    healthy = not any(finding.state == "error" for finding in found)
    if as_json:
        print(json.dumps({"healthy": healthy, "findings": [one._asdict() for one in found]}))
    else:
        _print(found, output_console(stderr=False))
    return healthy


def _print(found: list[Finding], console: Console) -> None:
    longest = max((len(finding.subject) for finding in found), default=0)
    table = Table.grid(padding=(0, 1), pad_edge=False)
    plain = console.options.ascii_only
    table.add_column(width=max(map(len, _ASCII_SIGNS.values())) if plain else 1)
    table.add_column(overflow="fold", min_width=min(longest, console.width // 3))
    table.add_column(overflow="fold")
    for finding in found:
        sign, style = _SIGNS[finding.state]
        words, fix = finding.said, f"\n→ {finding.fix}" if finding.fix else ""
        if plain:
            sign, words, fix = (
                _ASCII_SIGNS[finding.state],
                words.translate(_ASCII),
                fix.translate(_ASCII),
            )
        said = Text(words).append(fix, style="bold")
        table.add_row(Text(sign, style=style), Text(finding.subject), said)
    states = [finding.state for finding in found]
    errors, warnings = states.count("error"), states.count("warning")
    console.print(Text(f"warpspan {__version__} doctor", style="bold"))
    console.print(table)
    if errors or warnings:
        console.print(f"{plural(errors, 'error')}, {plural(warnings, 'warning')}", highlight=False)
    else:
        console.print("No problems found.", highlight=False)
