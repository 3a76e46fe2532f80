"""The page in a real browser: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.report.test_html import HOSTILE, page, run
from warpspan.records import Model

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield opened
        opened.close()


@pytest.fixture
def show(browser, tmp_path) -> Iterator[Callable]:
    """Opens a page, and fails on anything in the console and on any request to elsewhere."""
    said: list[str] = []
    contexts = []

    def show(written: str, width: int = 1600, scheme: str = "light"):
        path = tmp_path / "run.html"
        path.write_text(written, encoding="utf-8")
        viewport = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=viewport, color_scheme=scheme))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on(
            "request",
            lambda request: said.append(request.url) if request.url != path.as_uri() else None,
        )
        tab.goto(path.as_uri())
        tab.wait_for_function("document.documentElement.dataset.charts")
        return tab

    yield show
    for context in contexts:
        context.close()
    assert [] == said


def painted(tab, selector: str) -> int:
    """How many colours a canvas has; an empty one has one."""
    script = """canvas => {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        const seen = new Set();
        for (let at = 0; at < pixels.length; at += 4)
            seen.add((pixels[at] << 16) | (pixels[at + 1] << 8) | pixels[at + 2]);
        return seen.size;
    }"""
    return tab.locator(f"{selector} canvas").first.evaluate(script)


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_drawn_and_fits(show, width, scheme):
    """All charts have something in them, and the page does not scroll to the side."""
    tab = show(page(run()), width, scheme)
    assert "5" == tab.evaluate("document.documentElement.dataset.charts")
    assert width == tab.evaluate("document.documentElement.scrollWidth")
    for kind in ("distribution", "timeline", "over-time", "batch"):
        assert painted(tab, f"[data-kind={kind}]") > 3, kind
    smallest = tab.evaluate(
        "Math.min(...[...document.querySelectorAll('p, td, th, li, dt, dd, h2, h3')]"
        ".map(one => parseFloat(getComputedStyle(one).fontSize)))"
    )
    assert smallest >= 12


def test_the_timeline_obeys_the_keyboard(show):
    """Focus by tabulator, zoom and move, and hear of it."""
    tab = show(page(run()))
    place = tab.locator(".timeline")
    for _ in range(30):
        tab.keyboard.press("Tab")
        if place.evaluate("one => one === document.activeElement"):
            break
    readout = tab.locator(".readout")
    tab.keyboard.press("+")
    near = readout.text_content()
    tab.keyboard.press("ArrowRight")
    right = readout.text_content()
    tab.keyboard.press("Home")
    whole = readout.text_content()
    assert ["298 ms to 895 ms", "447 ms to 1.04 s", "0 to 1.19 s"] == [near, right, whole]
    assert "polite" == readout.get_attribute("aria-live")


def test_the_timeline_says_what_is_under_the_pointer(show):
    """And its buttons have names."""
    tab = show(page(run()))
    tab.get_by_role("button", name="zoom in").click()
    box = tab.locator(".timeline .u-over").bounding_box()
    # The second lane of the drawing is the first one of the requests.
    tab.mouse.move(box["x"] + 2, box["y"] + 33)
    texts = set()
    for step in range(40):
        tab.mouse.move(box["x"] + 2 + 2 * step, box["y"] + 33)
        texts.add((tab.locator(".readout").text_content() or "").partition(",")[0])
    assert "requests: POST /" in texts


def test_readers_of_screens_find_everything_by_name(show):
    """Headings in order, charts as pictures with names, tables with captions."""
    tab = show(page(run()))
    assert 1 == tab.get_by_role("heading", level=1).count()
    assert 10 == tab.get_by_role("heading", level=2).count()
    assert 1 == tab.get_by_role("img", name="forward Net: time by batch").count()
    assert 1 == tab.get_by_role("table", name="The slowest inferences").count()
    assert 5 == tab.locator(".toolbar").get_by_role("button").count()


def test_hostile_names_are_shown_and_not_run(show):
    """A model that is called like markup."""
    tab = show(page(run(model=Model(HOSTILE), operation=HOSTILE, process=HOSTILE)))
    assert 0 == tab.locator("img").count()
    assert HOSTILE in (tab.locator("body").text_content() or "")
