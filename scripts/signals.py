"""Write the modules of src/warpspan/signals/ and docs/signals.md from its registry.yaml.

Run with --check to compare instead of writing; exits 1 where a file is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
SIGNALS = ROOT / "src/warpspan/signals"
SOURCE = SIGNALS / "registry.yaml"
DOCS = ROOT / "docs/signals.md"


def constant(name: str) -> str:
    return name.replace(".", "_").upper()


def names(groups: list[dict[str, Any]]) -> str:
    """The constants of the attributes."""
    lines = [
        '"""Names of all attributes, written from registry.yaml by `make signals`."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Final",
        "",
    ]
    for group in groups:
        if group["type"] == "attribute_group":
            lines += [
                f'{constant(attribute["id"])}: Final = "{attribute["id"]}"'
                for attribute in group["attributes"]
            ]
    return "\n".join(lines) + "\n"


def instruments(groups: list[dict[str, Any]]) -> str:
    """The constants of the metrics."""
    lines = [
        '"""All metrics, written from registry.yaml by `make signals`."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Final, NamedTuple",
        "",
        "",
        "class Metric(NamedTuple):",
        '    """A metric as it is created: `buckets` only for histograms."""',
        "",
        "    name: str",
        "    unit: str",
        "    description: str",
        "    buckets: tuple[float, ...] | None = None",
        "",
        "",
    ]
    for group in groups:
        if group["type"] != "metric":
            continue
        buckets = group.get("annotations", {}).get("buckets")
        lines.append(f"{constant(group['metric_name'])}: Final = Metric(")
        lines.append(f'    "{group["metric_name"]}",')
        lines.append(f'    "{group["unit"]}",')
        lines.append(f'    "{group["brief"]}",')
        if buckets:
            lines.append("    (")
            lines += [f"        {float(bucket)!r}," for bucket in buckets]
            lines.append("    ),")
        lines.append(")")
    return "\n".join(lines) + "\n"


def markdown(groups: list[dict[str, Any]]) -> str:
    lines = [
        "# Signals",
        "",
        "Written from [`registry.yaml`](../src/warpspan/signals/registry.yaml) by `make signals`. "
        "A value that was not measured is absent, never 0.",
        "",
        "## Attributes of an inference span",
    ]
    for group in groups:
        if group["type"] != "attribute_group":
            continue
        lines += ["", f"### {group['id'].removeprefix('registry.')}", "", group["brief"], ""]
        lines += ["| attribute | type | unit | meaning | scope |", "|---|---|---|---|---|"]
        for attribute in group["attributes"]:
            notes = attribute.get("annotations", {})
            meaning = " ".join(
                filter(None, [attribute["brief"], attribute.get("note"), source(notes)])
            )
            lines.append(
                f"| `{attribute['id']}` | {attribute['type']} | {notes.get('unit', '')} "
                f"| {meaning} | {notes.get('scope', '')} |"
            )
    lines += ["", "## Metrics", "", "| metric | instrument | unit | meaning | attributes |"]
    lines.append("|---|---|---|---|---|")
    for group in groups:
        if group["type"] == "metric":
            attributes = ", ".join(f"`{attribute['ref']}`" for attribute in group["attributes"])
            lines.append(
                f"| `{group['metric_name']}` | {group['instrument']} | `{group['unit']}` "
                f"| {group['brief']} | {attributes} |"
            )
    return "\n".join(lines) + "\n"


def source(notes: dict[str, str]) -> str:
    return f"Source: {notes['source']}." if "source" in notes else ""


def main() -> int:
    groups = yaml.safe_load(SOURCE.read_text())["groups"]
    written = {
        SIGNALS / "names.py": names(groups),
        SIGNALS / "instruments.py": instruments(groups),
        DOCS: markdown(groups),
    }
    stale = [
        path for path, text in written.items() if not path.exists() or path.read_text() != text
    ]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run `make signals`", file=sys.stderr)
        return bool(stale)
    for path, text in written.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
