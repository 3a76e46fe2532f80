"""The code blocks of the documents that a user follows."""

from __future__ import annotations

from typing import NamedTuple

from environments import ROOT
from markdown_it import MarkdownIt

DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "examples" / "README.md",
    ROOT / "collector-config" / "README.md",
]


class Block(NamedTuple):
    """A code block.

    Args:
        document: the path from the root of the checkout.
        line: where it begins.
        language: the word behind its fence; empty where there is none.
        text: what is in it.
    """

    document: str
    line: int
    language: str
    text: str

    @property
    def key(self) -> tuple[str, str]:
        """What stays the same when the document around it changes: its first line."""
        return self.document, self.text.partition("\n")[0]


def blocks() -> list[Block]:
    """Every code block, indented ones included."""
    return [
        Block(
            path.relative_to(ROOT).as_posix(),
            (token.map or [0])[0] + 1,
            token.info.strip(),
            token.content,
        )
        for path in DOCUMENTS
        for token in MarkdownIt().parse(path.read_text(encoding="utf-8"))
        if token.type in ("fence", "code_block")
    ]
