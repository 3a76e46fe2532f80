"""Tables as a terminal shows them."""

import pytest

pytest.importorskip("rich")
from rich.console import Console

from warpspan.kernels.bench.correctness import Check
from warpspan.kernels.bench.rows import BenchRow
from warpspan.kernels.bench.table import checks_table, tables

US = 1e-6


def row(provider, shape, us=None, **values):
    times = {}
    if us is not None:
        times = dict.fromkeys(("device_p20_s", "device_p50_s", "device_p80_s"), us * US)
    return BenchRow("rope", shape, "prefill", "bfloat16", provider, "cold", **times, **values)


def shown(rows, width=200):
    """What is printed, a text each."""
    console = Console(width=width, color_system=None)
    return [text(one, console) for one in tables(rows, console)]


def text(renderable, console):
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def test_a_table_shows_what_was_measured_and_leaves_out_empty_columns():
    """Microseconds with their spread, speed-up; no column for what nobody measured."""
    ours = row("triton", "B=1,S=8", 10.0, launches=1, speedup=3.0, wall_s=12 * US)
    eager = row("eager", "B=1,S=8", 30.0, launches=10, speedup=1.0)
    table, line = shown([eager._replace(minimum_bytes=2_000_000), ours])
    lines = [one.split() for one in table.splitlines()]
    assert ["rope", "B=1,S=8", "bfloat16", "minimum", "2.00", "MB"] == lines[0]
    header = "cache provider launches device us p50 [p20-p80] wall us GB/s speed-up"
    assert header == " ".join(lines[1])
    assert ["cold", "triton", "1", "10.00", "[10.00-10.00]", "12.0", "–", "3.00x"] == lines[4]
    assert "rope: fusion pays 3.0x at prefill\n" == line


def test_a_provider_that_did_not_run_says_why_in_its_row():
    """At the shape where it did not."""
    rows = [
        row("triton", "B=1,S=8", 10.0),
        row("compile", "B=1,S=8", reason="RuntimeError: no kernel"),
        row("triton", "B=1,S=9", 10.0),
        row("compile", "B=1,S=9", 11.0),
    ]
    first, second, _ = shown(rows)
    (line,) = [line for line in first.splitlines() if "compile" in line]
    assert ["cold", "compile", "–", "RuntimeError:", "no", "kernel"] == line.split()
    assert "note" not in second


@pytest.mark.parametrize("width", [60, 80, 100, 150, 200])
def test_every_value_is_whole_at_every_width(width):
    """What does not fit goes on in further tables, which name cache and provider again."""
    ours = row(
        "triton",
        "B=1,S=8",
        123_456.789,
        launches=1234,
        wall_s=0.123456,
        minimum_bytes=2 * 10**12,
        peak_bytes=141 << 30,
        sm_cycles=123_456_789_012.0,
        energy_j=123.456,
        error_ratio=1.01,
        speedup=13.07,
        first_call_s=123.45,
        reason="RuntimeError: no kernel image is available",
    )
    table, _ = shown([ours], width)
    assert max(map(len, table.splitlines())) <= width
    for value in (
        *("1234", "123456.79", "123456.0", "16200", "151397.6", "123456789012", "123456.000"),
        *("1.01", "13.07x", "123.45"),
    ):
        assert value in table


def test_brackets_in_a_reason_are_no_markup():
    """A provider's own words are shown as they are."""
    broken = row("compile", "B=1,S=8", reason="[/bold] is [red]")
    table, _ = shown([broken])
    assert "[/bold] is [red]" in table


def test_throttling_is_told_beside_the_verdict():
    """Each reason once."""
    rows = [
        row("triton", "B=1,S=8", 10.0, throttle_reasons=("sw_power_cap",)),
        row("triton", "B=1,S=9", 10.0, throttle_reasons=("hw_thermal", "sw_power_cap")),
    ]
    *_, last = shown(rows)
    assert "rope: the GPU was throttled meanwhile: hw_thermal, sw_power_cap\n" == last


def test_checks_are_counted_by_operation_and_dtype():
    """The worst of random inputs; a failure stands in red and in the count."""
    checks = [
        Check("rope", "B=1 random", "float32", 1e-7, 1.5, None),
        Check("rope", "B=1 large", "float32", 1e3, 1.0, None),
        Check("rope", "B=1 nan", "float32", None, None, "gives 1.0"),
        Check("swiglu", "M=1 random", "float32", 2e-7, None, None),
    ]
    console = Console(width=80, color_system=None)
    lines = text(checks_table(checks, console), console).splitlines()
    assert ["rope", "float32", "3", "1", "1.0e-07", "1.50"] == lines[3].split()
    assert ["swiglu", "float32", "1", "0", "2.0e-07", "–"] == lines[4].split()
