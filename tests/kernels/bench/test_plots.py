"""Plots and the page that holds them."""

import sys
from html.parser import HTMLParser

import pytest

from warpspan.kernels.bench import plots
from warpspan.kernels.bench.correctness import Check
from warpspan.kernels.bench.rows import BenchRow

pytest.importorskip("matplotlib")

US = 1e-6


def row(provider, shape, us, speedup):
    times = dict.fromkeys(("device_p20_s", "device_p50_s", "device_p80_s"), us * US)
    return BenchRow(
        "rope",
        shape,
        "prefill",
        "bfloat16",
        provider,
        "cold",
        **times,
        speedup=speedup,
        minimum_bytes=10**7,
        flops=10**7,
        ceiling_bytes_per_s=4e12,
    )


ROWS = [
    row("eager", "S=8", 30.0, 1.0),
    row("triton", "S=8", 10.0, 3.0),
    row("eager", "S=9", 30.0, 1.0),
    row("triton", "S=9", 15.0, 2.0),
    BenchRow("rope", "S=8", "prefill", "bfloat16", "<liger>", "", reason="not <installed>"),
]
CHECKS = [Check("rope", "S=8 random", "bfloat16", 1e-3, 1.1, None)]


class References(HTMLParser):
    def __init__(self):
        super().__init__()
        self.elsewhere, self.tags = [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not value.startswith("#"):
                self.elsewhere.append(value)


def test_the_page_has_everything_in_it():
    """Tables, verdict, plots as SVG, nothing loaded from elsewhere, text escaped."""
    page = plots.page(CHECKS, ROWS, {"gpu": "NVIDIA H100", "cuda": None})
    seen = References()
    seen.feed(page)
    assert [] == seen.elsewhere
    assert {"table", "svg"} <= seen.tags
    assert "fusion pays 2.0-3.0x at prefill" in page
    assert "not &lt;installed&gt;" in page
    assert "gpu NVIDIA H100" in page
    assert "cuda" not in page


def test_a_page_without_times_has_no_empty_plot():
    """Correctness alone, as --interpret gives it."""
    page = plots.page(CHECKS, [], {})
    assert "<svg" not in page
    assert "1.10" in page


def test_bars_are_the_speedups():
    """One group a shape, one bar a provider beside eager."""
    axes = plots.figure(ROWS).axes
    assert 2 == len(axes)
    assert [3.0, 2.0] == [bar.get_height() for bar in axes[1].patches]
    assert ["S=8", "S=9"] == [label.get_text() for label in axes[1].get_xticklabels()]


def test_the_roofline_has_the_measured_copy_as_its_roof():
    """A line of 4 TB/s, and a point a row."""
    roofline = plots.figure(ROWS).axes[0]
    (roof,) = roofline.lines
    x, y = (float(one[0]) for one in roof.get_data())
    assert pytest.approx(4e12) == y / x
    assert 4 == sum(len(one.get_offsets()) for one in roofline.collections)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_plots_are_saved_by_the_files_ending(kind, tmp_path):
    """As an image or a drawing."""
    path = tmp_path / f"plot.{kind}"
    plots.save(path, ROWS)
    starts = {"png": b"\x89PNG", "svg": b"<?xml"}
    assert starts[kind] == path.read_bytes()[: len(starts[kind])]


def test_without_matplotlib_one_sentence_says_how_to_get_it(monkeypatch):
    """The extra's name."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(plots.MissingMatplotlibError, match=r"pip install 'warpspan\[bench\]'"):
        plots.figure(ROWS)
