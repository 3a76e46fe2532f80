"""Tables that fit a terminal: what is too wide goes on in further blocks, and no value is cropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

#: Stands where nothing was measured.
ABSENT = "\N{EN DASH}"

Cell: TypeAlias = str | Text | None

# Texts are folded to something between these widths before a table is divided, depending on their
# longest word, and further only where they must be.
_SHORT_TEXT = 20
_FOLDED_TEXT = 24
_NARROWEST_TEXT = 8
_BETWEEN_COLUMNS = 2


class Column(NamedTuple):
    """A column of a table.

    Args:
        heading: one line, or two: a first line that is that of the column before is not repeated.
        cells: one per row; None where nothing was measured.
        is_text: texts stand on the left and may be folded, numbers on the right and may not.
        style: of its cells.
    """

    heading: str
    cells: Sequence[Cell]
    is_text: bool = False
    style: str = ""

    @property
    def has_value(self) -> bool:
        """Whether any row has a value."""
        return any(cell and str(cell) != ABSENT for cell in self.cells)

    @property
    def width(self) -> int:
        """Characters that it takes unfolded."""
        return max(map(cell_len, (*self.heading.split("\n"), *self._lines())))

    @property
    def folded_width(self) -> int:
        """Characters that it takes as narrow as it reads well."""
        if not self.is_text:
            return self.width
        words = [word for line in (self.heading, *self._lines()) for word in line.split()]
        longest = max(map(cell_len, words), default=0)
        return min(self.width, max(_SHORT_TEXT, min(longest, _FOLDED_TEXT)))

    def _lines(self) -> list[str]:
        return [ABSENT if cell is None else str(cell) for cell in self.cells]


def blocks(
    columns: Sequence[Column],
    console: Console,
    keys: Sequence[int] = (0,),
    row_styles: Sequence[str] = (),
) -> list[RenderableType]:
    """One table where the console is wide enough, else as many as it takes.

    Columns without a value in any row are left out. Where columns do not fit side by side, texts are
    folded first; what still does not fit goes on in further tables, each with the keys.

    Args:
        columns: with as many cells each.
        console: to fit.
        keys: the columns that stand in each table: they name the rows.
        row_styles: a style for each row, none by default.
    """
    every = {at for at in keys if columns[at].has_value} or {keys[0]}
    held = [every]
    for at, column in enumerate(columns):
        if at in every or not column.has_value:
            continue
        wider = held[-1] | {at}
        if held[-1] != every and _folded_width(_side_by_side(columns, wider)) > console.width:
            held.append(every | {at})
        else:
            held[-1] = wider
    parts: list[RenderableType] = []
    for block in held:
        shown = _side_by_side(columns, block)
        parts += [Text(), _table(shown, _widths(shown, console.width), row_styles)]
    return parts[1:]


def one_block(
    columns: Sequence[Column], console_width: int, keys: Sequence[int] = (0,)
) -> tuple[Table, list[str]]:
    """One table of as many columns as fit, the first ones first, for a screen that has one place.

    Args:
        columns: with as many cells each, those that matter most first.
        console_width: to fit.
        keys: the columns that are always there.

    Returns:
        The table, and the headings of the columns that have values and did not fit.
    """
    block, left_out = set(keys), []
    for at, column in enumerate(columns):
        if at in block or not column.has_value:
            continue
        wider = block | {at}
        if _folded_width(_side_by_side(columns, wider)) <= console_width:
            block = wider
        else:
            left_out.append(" ".join(column.heading.split()))
    shown = _side_by_side(columns, block)
    return _table(shown, _widths(shown, console_width), ()), left_out


def _side_by_side(columns: Sequence[Column], block: set[int]) -> list[Column]:
    """The columns of a block. A heading over several of them stands once."""
    shown: list[Column] = []
    former = None
    for column in (columns[at] for at in sorted(block)):
        over, divider, under = column.heading.partition("\n")
        repeated = bool(divider) and over == former
        shown.append(column._replace(heading=f"\n{under}") if repeated else column)
        former = over
    return shown


def _folded_width(columns: Sequence[Column]) -> int:
    between = _BETWEEN_COLUMNS * (len(columns) - 1)
    return sum(column.folded_width for column in columns) + between


def _widths(columns: Sequence[Column], console_width: int) -> list[int]:
    """How wide each column is: numbers as they are, texts share what is left, the short ones first."""
    left = console_width - _BETWEEN_COLUMNS * (len(columns) - 1)
    widths = {at: column.width for at, column in enumerate(columns) if not column.is_text}
    left -= sum(widths.values())
    texts = [at for at, column in enumerate(columns) if column.is_text]
    for done, at in enumerate(sorted(texts, key=lambda at: columns[at].width)):
        fair = max(_NARROWEST_TEXT, left // (len(texts) - done))
        widths[at] = min(columns[at].width, fair)
        left -= widths[at]
    return [widths[at] for at in range(len(columns))]


def _table(columns: Sequence[Column], widths: Sequence[int], row_styles: Sequence[str]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="dim",
    )
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            Text(column.heading),
            justify="left" if column.is_text else "right",
            style=column.style,
            overflow="fold",
            width=width,
        )
    for at, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        style = row_styles[at] if row_styles else None
        table.add_row(*map(_shown, cells), style=style)
    return table


def _shown(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(ABSENT if cell is None else cell)
