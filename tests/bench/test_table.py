"""Tables as a terminal shows them."""

import pytest

pytest.importorskip("rich")
from rich.console import Console

from warpspan.bench.correctness import Check
from warpspan.bench.rows import BenchRow
from warpspan.bench.table import checks_table, notes, tables

US = 1e-6


def row(provider, shape, us=None, **values):
    times = {}
    if us is not None:
        times = dict.fromkeys(("device_p20_s", "device_p50_s", "device_p80_s"), us * US)
    return BenchRow("rope", shape, "prefill", "bfloat16", provider, "cold", **times, **values)


def text(renderable):
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def test_a_table_shows_what_was_measured_and_leaves_out_empty_columns():
    """Microseconds with their spread, megabytes, fractions; no column for what nobody measured."""
    shown = text(
        next(
            iter(
                tables(
                    [
                        row("eager", "B=1,S=8", 30.0, launches=10, speedup=1.0),
                        row("triton", "B=1,S=8", 10.0, launches=1, speedup=3.0, wall_s=12 * US),
                    ]
                )
            )
        )
    )
    assert "10.00 [10.00-10.00]" in shown
    assert "3.00x" in shown
    assert "fusion pays 3.0x at prefill" in shown
    assert "mJ" not in shown
    assert "wall us" in shown


def test_a_provider_that_never_ran_has_one_row_with_its_reason():
    """Not one for each shape."""
    rows = [
        row("triton", "B=1,S=8", 10.0),
        row("liger", "B=1,S=8", reason="not installed: pip install liger-kernel"),
        row("triton", "B=1,S=9", 10.0),
        row("liger", "B=1,S=9", reason="not installed: pip install liger-kernel"),
    ]
    shown = text(next(iter(tables(rows))))
    assert 1 == shown.count("not installed: pip install liger-kernel")
    assert 1 == shown.count("│ all ")


def test_a_provider_that_failed_at_one_shape_has_its_reason_there():
    """In the row of that shape."""
    rows = [
        row("triton", "B=1,S=8", 10.0),
        row("compile", "B=1,S=8", reason="RuntimeError: no"),
        row("triton", "B=1,S=9", 10.0),
        row("compile", "B=1,S=9", 11.0),
    ]
    lines = text(next(iter(tables(rows)))).splitlines()
    assert ["B=1,S=8"] == [line.split()[1] for line in lines if "RuntimeError: no" in line]


def test_notes_tell_what_times_do_not():
    """A distance beyond the rule, and throttling, each once."""
    why = "beyond the rule: is 0.1 from float64"
    rows = [
        row("liger", "B=1,S=8", 10.0, reason=why, throttle_reasons=("sw_power_cap",)),
        row("liger", "B=1,S=9", 10.0, reason=why, throttle_reasons=()),
        row("tensorrt", "B=1,S=9", reason="not installed"),
    ]
    assert [
        f"rope, liger (2 shapes): {why}",
        "The GPU was throttled during the run: sw_power_cap.",
    ] == list(notes(rows))


def test_checks_are_counted_by_operation_and_dtype():
    """The worst of random inputs; a failure stands in red and in the count."""
    checks = [
        Check("rope", "B=1 random", "float32", 1e-7, 1.5, None),
        Check("rope", "B=1 large", "float32", 1e3, 1.0, None),
        Check("rope", "B=1 nan", "float32", None, None, "gives 1.0"),
        Check("swiglu", "M=1 random", "float32", 2e-7, None, None),
    ]
    lines = text(checks_table(checks)).splitlines()
    assert ["rope", "float32", "3", "1", "1.0e-07", "1.50"] == lines[4].replace("│", "").split()
    assert ["swiglu", "float32", "1", "0", "2.0e-07", "-"] == lines[5].replace("│", "").split()
