"""Tables as they look."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from warpspan.records.units import seconds, share, size
from warpspan.report.leaks import Leak
from warpspan.report.summary import Quantiles, Row, Spread, Summary
from warpspan.report.text import render

CPU = Row(
    operation="forward",
    model="BertModel",
    device_type="cpu",
    device_indexes=(),
    inference_count=1200,
    errors={},
    rate_per_s=31.25,
    duration_s=Quantiles(0.0042, 0.0099, 0.12),
    device_time_s=None,
    device_share=None,
    memory_peak_bytes=None,
    rss_max_bytes=612 << 20,
    batch_size=Spread(8, 32),
    sequence_length=Spread(128, 128),
    idle_share=0.62,
)
CUDA = CPU._replace(
    operation="rerank",
    model=None,
    device_type="cuda",
    device_indexes=(0, 1),
    errors={"torch.OutOfMemoryError": 2},
    device_time_s=Quantiles(0.004, 0.009, 0.1),
    device_share=0.95,
    memory_peak_bytes=5 << 30,
    rss_max_bytes=None,
    batch_size=None,
    sequence_length=None,
    idle_share=None,
)


def show(*rows: Row, width: int) -> list[str]:
    """The lines of a summary of rows, without the blanks at their ends."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    errors = sum(sum(row.errors.values()) for row in rows)
    summary = Summary(rows, sum(row.inference_count for row in rows), errors, 1, 38.4)
    console.print(render(summary, console))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_wide():
    """One table where there is room for it; a heading over several columns stands once."""
    expected = """\
2,400 inferences in 38.4 s, 2 failed

inference          count  failed  rate  duration                    idle  device                          memory    batch  sequence
                                   1/s       p50      p95     p99  share            time p50  share          max  p50/max   p50/max
───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
forward BertModel  1,200       0  31.2   4.20 ms  9.90 ms  120 ms    62%  cpu              –      –  612 MiB RSS     8/32       128
rerank             1,200       2  31.2   4.20 ms  9.90 ms  120 ms      –  cuda:0,1   4.00 ms    95%     5.00 GiB        –         –

– = not measured. Device time needs CUDA or ROCm; batch size needs a tensor input; sequence length needs token ids or embeddings; rate, idle
share and first call need at least two inferences.
Failed: torch.OutOfMemoryError 2."""
    assert expected.splitlines() == show(CPU, CUDA, width=140)


def test_narrow():
    """As many tables as it takes where there is not; names may be folded between words."""
    expected = """\
2,400 inferences in 38.4 s, 2 failed

inference                  count  failed  rate  duration                    idle
                                           1/s       p50      p95     p99  share
────────────────────────────────────────────────────────────────────────────────
forward BertModel          1,200       0  31.2   4.20 ms  9.90 ms  120 ms    62%
rerank                     1,200       2  31.2   4.20 ms  9.90 ms  120 ms      –
SentenceTransformer
"""
    lines = show(CPU, CUDA._replace(model="SentenceTransformer"), width=80)
    assert expected.splitlines() == lines[:8]


def test_columns_that_no_row_has_a_value_for():
    """They are left out, and what is said of them."""
    lines = show(CPU._replace(batch_size=None, sequence_length=None), width=140)
    assert "rate  duration                    idle  device       memory" in lines[2]
    assert "forward BertModel" == lines[-1][:17]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_every_width(width):
    """No line is wider than the console, down to the width of the widest group of columns."""
    assert max(len(line) for line in show(CPU, CUDA, width=width)) <= width


def test_processes_in_the_headline():
    """More than one process is told."""
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(render(Summary((CPU,), 1, 0, 4, 125.0), console))
    assert "1 inference in 2 min 5 s, 4 processes" == console.file.getvalue().splitlines()[0]


def test_names_can_not_steer_the_terminal():
    """Control characters and markup in a name from a file are shown, not obeyed."""
    lines = show(CPU._replace(model="\x1b[31m[red]Net\nx"), width=140)
    assert "forward �[31m[red]Net�x" == lines[5].partition("  ")[0]


def test_long_names_are_folded_not_cut():
    """A name longer than its column goes on in the next line."""
    name = "SentenceTransformerWithAnExtraordinarilyLongNameForItsClass"
    lines = show(CPU._replace(model=name), width=80)
    start = next(index for index, line in enumerate(lines) if line.startswith("forward"))
    end = lines.index("", start)
    shown = "".join(line.split("  ")[0].replace(" ", "") for line in lines[start:end])
    assert f"forward{name}" == shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0 s"),
        (7e-8, "70 ns"),
        (9.996e-7, "1.00 µs"),
        (3.72e-05, "37.2 µs"),
        (0.000999, "999 µs"),
        (0.0009999, "1.00 ms"),
        (0.00999999, "10.0 ms"),
        (0.42, "420 ms"),
        (1.3, "1.30 s"),
        (59.99, "60.0 s"),
        (125.4, "2 min 5 s"),
        (90_000.0, "1,500 min 0 s"),
    ],
)
def test_seconds(value, expected):
    """Times have three significant digits."""
    assert expected == seconds(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1 << 20, "1.00 MiB"),
        (642_000_000, "612 MiB"),
        (1_300_000_000, "1.21 GiB"),
        (3 << 50, "3072 TiB"),
    ],
)
def test_size(value, expected):
    """Bytes have three significant digits in binary units."""
    assert expected == size(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0%"), (0.004, "<1%"), (0.62, "62%"), (0.996, ">99%"), (1.0, "100%"), (1.3, "130%")],
)
def test_share(value, expected):
    """Only nothing is 0 % and only all is 100 %."""
    assert expected == share(value)


def test_kv_caches_have_columns_where_there_are_any():
    """And a leak is named under the table."""
    row = CPU._replace(kv_cache_max_bytes=23552, kv_cache_growth_bytes=-2944.0)
    console = Console(file=io.StringIO(), width=200, color_system=None)
    leak = Leak("Llama", "p", 1_413_120, 60, 0.984)
    console.print(render(Summary((row,), 1200, 0, 1, 38.4, (leak,)), console))
    text = console.file.getvalue()
    assert "KV cache" in text
    assert "23.0 KiB  -2.88 KiB" in text
    assert "Llama has released no KV cache. 60 caches now hold 1.35 MiB" in text
    assert not any("KV cache" in line for line in show(CPU, width=200))
