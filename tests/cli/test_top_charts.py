"""Bars and sparklines, sign by sign."""

import pytest

from warpspan.cli.top_charts import bar, sparkline


@pytest.mark.parametrize(
    ("share", "expected", "color"),
    [
        (0.0, "····", "dim"),
        (0.5, "██··", "green"),
        (0.53, "██▏·", "green"),
        (0.75, "███·", "yellow"),
        (1.0, "████", "red"),
        (1.7, "████", "red"),
    ],
)
def test_bar(share, expected, color):
    """Eighths of a sign, and a color for how much it is; more than all is all."""
    made = bar(share, 4)
    assert (expected, color) == (made.plain, made.spans[0].style)


def test_a_minute_in_fewer_columns():
    """Each is a mean of some seconds, the last one ends now; the highest one is full."""
    assert (
        "▁▂▃▄▅▆▇█▅▅"
        == sparkline([level for level in range(8) for _ in range(6)] + [4] * 12, 10).plain
    )


def test_less_than_a_minute():
    """What was not seen is blank, and so is what is not known."""
    assert "    █" == sparkline([5.0], 5).plain
    assert "   ▁█" == sparkline([None] * 12 + [0.0] * 12 + [1.0] * 12, 5).plain


def test_against_a_limit():
    """A column is full where the limit is reached."""
    assert "    ▅" == sparkline([0.5], 5, top=1.0).plain


def test_nothing_at_all():
    """Zeros are low columns."""
    assert "▁▁" == sparkline([0.0] * 60, 2).plain
