"""The documents: every link leads somewhere, and the index names every page."""

import itertools
import re
import unicodedata
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "examples" / "README.md",
        ROOT / "collector-config" / "README.md",
    ]
)
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]


def inline(path):
    """The inline tokens of a document, those of headings apart."""
    tokens = MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8"))
    headings = [
        after for token, after in itertools.pairwise(tokens) if token.type == "heading_open"
    ]
    return [token for token in tokens if token.type == "inline"], headings


def links(path):
    """Where its relative links lead: file and anchor."""
    found = [
        child.attrs.get("href", child.attrs.get("src"))
        for token in inline(path)[0]
        for child in token.children
        if child.type in ("link_open", "image")
    ]
    return [tuple(one.partition("#")[::2]) for one in found if not re.match("[a-z]+:", one)]


def anchors(path):
    """The anchors that GitHub gives to its headings."""
    made = []
    for heading in inline(path)[1]:
        text = "".join(child.content for child in heading.children)
        kept = (
            one
            for one in text.strip().lower()
            if one in "-_ " or unicodedata.category(one)[0] in "LN"
        )
        made.append("".join(kept).replace(" ", "-"))
    return made


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_links(document):
    """Each relative link leads to a file, and its anchor to a heading of that file."""
    broken = []
    for file, anchor in links(document):
        target = (document.parent / file).resolve() if file else document
        if not target.exists():
            broken.append(file)
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            broken.append(f"{file}#{anchor}")
    assert [] == broken


def test_the_index():
    """It leads to every page of the documentation."""
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / file).resolve() for file, _ in links(index) if file}
    assert [] == [
        path.name
        for path in DOCUMENTS
        if path.parent.name == "docs" and path not in {*linked, index}
    ]
