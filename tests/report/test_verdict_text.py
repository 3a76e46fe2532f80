"""The answer, as it is printed: at every width, and without colours or Unicode."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.support.observations import GPU, Observation, series, served
from warpspan.advisor.engine import advise
from warpspan.report.verdict_text import render_advice


def printed(observation: Observation, width: int = 100, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    console = Console(file=file, width=width, no_color=True)
    console.print(render_advice(advise(observation), console))
    file.flush()
    return [line.rstrip() for line in raw.getvalue().decode(encoding).splitlines()]


WAITING = served(30, before_s=0.05, duration_s=0.04, after_s=0.01, pause_s=0.0, device=GPU)


def test_the_answer_comes_first():
    """A sentence, the bar, and why, what to do, the gain, and how to check it."""
    lines = printed(WAITING, 1000)

    assert (
        "forward Net: the device is idle 60% of the time while requests wait for the CPU. "
        "Moving that off the request's path makes it up to 2.50 times faster."
    ) == lines[0]
    assert "  cuda:0 2.94 s observed" == lines[1]
    assert f"  {'█' * 24}{'░' * 36}" == lines[2]
    legend = lines[3].replace("\N{NO-BREAK SPACE}", " ")
    assert "  █ busy 41%  ░ requests wait 59%" == legend
    words = [line.split()[0] for line in lines[4:] if line.strip()]
    assert ["why", "do", "gain", "check", "sure?", "rule"] == words[:6]


def test_what_is_not_known_is_said_with_the_way_to_know_it():
    """No cause is named."""
    lines = printed(WAITING._replace(requests=()), 1000)

    assert "forward Net: what held it back can't be told." == lines[0]
    assert any(
        line.startswith("  Not known (request wait): whether anybody waited") for line in lines
    )


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize(
    "observation", [WAITING, Observation(series(3)), Observation(series(30, device=GPU))]
)
def test_it_fits_every_width(width, observation):
    """Nothing is wider than the terminal, and no word is lost."""
    lines, whole = printed(observation, width), printed(observation, 1000)

    assert max(map(len, lines)) <= width
    assert " ".join(whole[0].split()) == " ".join(" ".join(lines).split())[: len(whole[0])]


def test_a_terminal_without_unicode_has_a_bar():
    """Its signs are those of ASCII; the text is not the bar's."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    console = Console(file=file, width=100, no_color=True)
    console.print(render_advice(advise(WAITING), console))
    file.flush()
    lines = file.buffer.getvalue().decode("ascii").splitlines()

    assert f"  {'#' * 24}{'r' * 36}" in [line.rstrip() for line in lines]
