"""Write environment_variables.py and the table of docs/configuration.md from config.py's options.

Run with --check to compare instead of writing; exits 1 where a file is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from warpspan.config import OPTIONS, Option

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = ROOT / "src/warpspan/environment_variables.py"
DOCS = ROOT / "docs/configuration.md"
BEGIN, END = "<!-- options: made by `make signals` -->\n", "<!-- end of options -->\n"


def default(option: Option) -> str:
    """The default as a user would write it."""
    if option.default in (None, ()):
        return "none"
    if isinstance(option.default, bool):
        return f"`{str(option.default).lower()}`"
    return f"`{option.default:g}`" if isinstance(option.default, float) else f"`{option.default}`"


def variables() -> str:
    """The constants, with what they mean."""
    lines = [
        '"""The environment variables of warpspan, listed by `opentelemetry-instrument --help`.',
        "",
        "Written from config.py by `make signals`.",
        '"""',
    ]
    for option in OPTIONS:
        lines += [
            "",
            f'{option.variable} = "{option.variable}"',
            f'"""{option.meaning} Give {option.kind.allowed}; default {default(option)}."""',
        ]
    return "\n".join(lines) + "\n"


def table() -> str:
    """The table of the page."""
    lines = ["| variable | argument | values | default | meaning |", "|---|---|---|---|---|"]
    for option in OPTIONS:
        argument = f"`{option.argument}`" if option.argument else ""
        meaning = option.meaning
        if option.page:
            meaning += f" See [{option.page.partition('.')[0]}]({option.page})."
        lines.append(
            f"| `{option.variable}` | {argument} | {option.kind.allowed} | {default(option)} "
            f"| {meaning} |"
        )
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with the table of now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def main() -> int:
    written = {VARIABLES: variables(), DOCS: page(DOCS.read_text(encoding="utf-8"))}
    stale = [path for path, text in written.items() if path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run `make signals`", file=sys.stderr)
        return bool(stale)
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
