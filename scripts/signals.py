"""Write the modules of src/warpspan/signals/ and docs/signals.md from its registry.yaml.

The page also names the field of the record that holds each attribute, by the declarations in
src/warpspan/records/. Run with --check to compare instead of writing; exits 1 where a file is stale.
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
            prefix = group.get("annotations", {}).get("prefix")
            ids = [attribute["id"] for attribute in group["attributes"]]
            lines += [
                f'{constant(name)}: Final = "{name}"' for name in ([prefix] if prefix else ids)
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
        "    instrument: str",
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
        lines.append(f'    "{group["instrument"]}",')
        lines.append(f'    "{group["unit"]}",')
        lines.append(f'    "{group["brief"]}",')
        if buckets:
            lines.append("    (")
            lines += [f"        {float(bucket)!r}," for bucket in buckets]
            lines.append("    ),")
        lines.append(")")
    return "\n".join(lines) + "\n"


def declared() -> tuple[dict[str, Any], int]:
    """The attributes of an inference by their names, and how many of them stand on a span at most.

    Imported late, since records are declared with the constants that this script writes.
    """
    sys.path.insert(0, str(ROOT / "src"))
    from warpspan.records import SPAN_ATTRIBUTE_LIMIT, codec

    return {attribute.name: attribute for attribute in codec.attributes}, SPAN_ATTRIBUTE_LIMIT


def markdown(groups: list[dict[str, Any]]) -> str:
    fields, limit = declared()
    lines = [
        "# Signals",
        "",
        "Written from [`registry.yaml`](../src/warpspan/signals/registry.yaml) by `make signals`. "
        "A value that was not measured is absent, never 0.",
        "",
        "The column *field* names the field of `warpspan.records.Inference` (`[]`: the field of each "
        "item of a tuple, whose values are parallel arrays). SDKs keep 128 attributes per span and "
        f"drop the oldest. If a span would have more than {limit} of ours, all attributes marked † "
        "move to its event `pytorch.details`.",
        "",
        "## Attributes of an inference span",
    ]
    for group in groups:
        if group["type"] != "attribute_group":
            continue
        lines += ["", f"### {group['id'].removeprefix('registry.')}", "", group["brief"], ""]
        lines += [
            "| attribute | type | unit | meaning | scope | field |",
            "|---|---|---|---|---|---|",
        ]
        for attribute in group["attributes"]:
            notes = attribute.get("annotations", {})
            meaning = " ".join(
                filter(None, [attribute["brief"], attribute.get("note"), source(notes)])
            )
            field = fields.get(attribute["id"])
            lines.append(
                f"| `{attribute['id']}` | {attribute['type']} | {notes.get('unit', '')} "
                f"| {meaning} | {notes.get('scope', '')} | {place(field)} |"
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


def place(field: Any) -> str:
    """Where a record holds an attribute, and whether it may leave the span."""
    if field is None:
        return ""
    return f"`{field.path}`{' †' if field.detail else ''}"


def source(notes: dict[str, str]) -> str:
    return f"Source: {notes['source']}." if "source" in notes else ""


def main() -> int:
    groups = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))["groups"]
    check = "--check" in sys.argv
    modules = {SIGNALS / "names.py": names(groups), SIGNALS / "instruments.py": instruments(groups)}
    stale = write(modules, check=check)
    if not stale or not check:  # else records may name constants that are not there
        stale |= write({DOCS: markdown(groups)}, check=check)
    return check and stale


def write(files: dict[Path, str], *, check: bool) -> bool:
    """Write files, or name those that are stale; returns whether any was."""
    stale = {
        path: text
        for path, text in files.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        if check:
            print(f"{path.relative_to(ROOT)} is stale: run `make signals`", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
    return bool(stale)


if __name__ == "__main__":
    raise SystemExit(main())
