"""Tables that fit a terminal: what is too wide goes on in further blocks, and no value is cropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNBOUNDED = 10_000
_NARROWEST_TEXT = 24


class Column(NamedTuple):
    """A column: its heading, its cells, and whether they are texts, which may be folded."""

    heading: str
    cells: Sequence[str]
    is_text: bool = False


def blocks(columns: Sequence[Column], console: Console, key: int = 0) -> list[Table]:
    """One table where the console is wide enough, else as many as it takes.

    Args:
        columns: with as many cells each.
        console: to fit.
        key: the column that stands in each block.
    """
    columns = [column for column in columns if any(column.cells)]
    names = columns[key]
    if _width(columns, console, None) <= console.width:
        return [_table(columns, None)]
    first, rest = [*columns[: key + 1]], columns[key + 1 :]
    held = [first] if _width(first, console, _NARROWEST_TEXT) <= console.width else [[names]]
    for column in rest if held[0] is first else [one for one in columns if one is not names]:
        wider = [*held[-1], column]
        if len(held[-1]) > 1 and _width(wider, console, _NARROWEST_TEXT) > console.width:
            held.append([names, column])
        else:
            held[-1] = wider
    return [_table(block, _room(block, console)) for block in held]


def _room(columns: Sequence[Column], console: Console) -> int:
    """How wide a text may be for the table to fit."""
    texts = sum(column.is_text for column in columns)
    taken = _width(columns, console, 1) - texts
    return max((console.width - taken) // texts, _NARROWEST_TEXT)


def _width(columns: Sequence[Column], console: Console, text_width: int | None) -> int:
    options = console.options.update(max_width=_UNBOUNDED)
    return console.measure(_table(columns, text_width), options=options).maximum


def _table(columns: Sequence[Column], text_width: int | None) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="dim",
    )
    for column in columns:
        table.add_column(
            column.heading,
            justify="left" if column.is_text else "right",
            overflow="fold",
            no_wrap=not column.is_text,
            max_width=text_width if column.is_text else None,
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(cell) for cell in cells))
    return table
