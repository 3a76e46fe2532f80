"""The worked example of a new metric in CONTRIBUTING.md is the real one."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_diffs_are_in_the_files():
    """Every block of added lines stands in the file that the diff names, line by line."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("## A new metric: registry entry + one row\n")[2].partition("\n## ")[0]
    added: dict[str, str] = {}
    for line in section.splitlines():
        if line.startswith("--- a/"):
            path = line.removeprefix("--- a/")
        elif line.startswith("+"):
            added[path] = added.get(path, "") + line[1:] + "\n"
    assert [
        "src/warpspan/signals/registry.yaml",
        "src/warpspan/emit/observable_table.py",
        "src/warpspan/emit/metric_table.py",
    ] == list(added)
    for path, lines in added.items():
        assert lines in (ROOT / path).read_text(encoding="utf-8")
