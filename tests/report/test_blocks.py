"""Tables that go on in further blocks where a terminal is narrow."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, Group

from warpspan.report.blocks import Column, blocks

COLUMNS = [
    Column("time", ["1.00 ms", "300 µs"]),
    Column("count", ["12", "3,000"]),
    Column("name", ["a_kernel_with_a_long_name<float, 4, 4>", "short"], is_text=True),
    Column("nothing", ["", ""]),
    Column("operator", ["aten::_flash_attention_forward", "aten::mm"], is_text=True),
    Column("mean", ["83.3 µs", "100 ns"]),
]


def render(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(Group(*blocks(COLUMNS, console, keys=(2,))))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_what_fits_is_one_table():
    """Without columns that are empty."""
    assert [
        "   time  count  name                                    operator                           mean",
        "─" * 95,
        "1.00 ms     12  a_kernel_with_a_long_name<float, 4, 4>  aten::_flash_attention_forward  83.3 µs",
        " 300 µs  3,000  short                                   aten::mm                         100 ns",
    ] == render(120)


def test_texts_are_folded_to_the_room_that_there_is():
    """Before a table is divided."""
    assert [
        "   time  count  name                        operator                      mean",
        "─" * 78,
        "1.00 ms     12  a_kernel_with_a_long_name<  aten::_flash_attention_fo  83.3 µs",
        "                float, 4, 4>                rward",
        " 300 µs  3,000  short                       aten::mm                    100 ns",
    ] == render(78)


@pytest.mark.parametrize("width", range(40, 100))
def test_no_value_is_cropped(width):
    """Whatever the width: all numbers are there, all texts piece by piece, no line is too long."""
    lines = render(width)

    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for cells in (column.cells for column in COLUMNS if not column.is_text):
        assert all(cell in text for cell in cells)
    for heading in ("time", "count", "name", "operator", "mean"):
        assert heading in text
    assert "nothing" not in text
    squeezed = "".join(text.split())
    for word in ("aten::mm", "short", "300µs"):
        assert word in squeezed
