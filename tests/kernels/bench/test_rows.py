"""Rows and verdict lines."""

import pytest

from warpspan.kernels.bench.rows import BenchRow, verdict
from warpspan.signals import names

US = 1e-6


def row(provider, shape="M=2048,H=4096", phase="prefill", us=None, wall_us=None, **values):
    """A cold row with a spread of 1 %."""
    times = {}
    if us is not None:
        times = {
            "device_p20_s": us * US * 0.99,
            "device_p50_s": us * US,
            "device_p80_s": us * US * 1.01,
            "wall_s": (us if wall_us is None else wall_us) * US,
        }
    return BenchRow("add_rms_norm", shape, phase, "bfloat16", provider, "cold", **times, **values)


def test_bandwidth_and_its_fractions_follow_from_what_was_measured():
    """Minimum bytes over the median, held to the copy's and the datasheet's."""
    full = row(
        "triton",
        us=100.0,
        minimum_bytes=300_000_000,
        ceiling_bytes_per_s=4e12,
        datasheet_bytes_per_s=4.8e12,
    )
    assert pytest.approx((3e12, 0.75, 0.625)) == (
        full.bytes_per_s,
        full.ceiling_fraction,
        full.datasheet_fraction,
    )


def test_what_was_not_measured_is_absent_everywhere():
    """No fraction without a time, no attribute without a value."""
    empty = row("liger", reason="not installed", minimum_bytes=10)
    assert (None, None, None) == (
        empty.bytes_per_s,
        empty.ceiling_fraction,
        empty.datasheet_fraction,
    )
    assert {
        names.PYTORCH_OPERATION_NAME: "add_rms_norm",
        names.PYTORCH_BENCH_PROVIDER: "liger",
        names.PYTORCH_BENCH_SHAPE: "M=2048,H=4096",
        names.PYTORCH_BENCH_DTYPE: "bfloat16",
        names.PYTORCH_BENCH_CACHE: "cold",
        names.PYTORCH_BENCH_UNAVAILABLE_REASON: "not installed",
        names.PYTORCH_BENCH_IO_MINIMUM: 10,
    } == empty.attributes()


def test_every_bench_attribute_of_the_registry_is_in_a_row():
    """A row can carry all that signals.yaml lists for benchmarks."""
    numbers = {
        name: 1
        for name, default in BenchRow._field_defaults.items()
        if default is None and name not in ("reason", "method", "throttle_reasons")
    }
    full = BenchRow("o", "s", "decode", "d", "p", "cold", reason="r", method="m", **numbers)
    listed = {value for name, value in vars(names).items() if name.startswith("PYTORCH_BENCH_")}
    assert listed == {name for name in full.attributes() if name.startswith("pytorch.bench.")}


def test_a_gain_is_told_with_its_range():
    """Over all shapes of a phase."""
    rows = [
        row("triton", us=10.0, speedup=3.1),
        row("triton", shape="M=8192,H=4096", us=40.0, speedup=2.6),
        row("eager", us=31.0),
    ]
    assert "fusion pays 2.6-3.1x at prefill" == verdict(rows)


def test_launch_cost_is_told_where_it_dominates():
    """The host needs many times the device's time: graphs, not kernels, are the remedy."""
    rows = [
        row("triton", us=10.0, speedup=3.1),
        row("triton", shape="M=1,H=4096", phase="decode", us=2.5, wall_us=40.0, speedup=1.4),
    ]
    assert (
        "fusion pays 3.1x at prefill; fusion pays 1.4x at decode; launch cost dominates at "
        "M=1,H=4096 (40 us on the host for 2.5 us on the device): use CUDA graphs"
    ) == verdict(rows)


def test_no_gain_is_told_too():
    """Plainly."""
    assert "fusion does not pay at prefill (1.0x of eager)" == verdict(
        [row("triton", us=10.0, speedup=1.02)]
    )


def test_a_faster_provider_is_named_beyond_the_spread_only():
    """compile is 5 % faster with a spread of 1 %, liger 0.5 %: compile is named."""
    rows = [
        row("triton", us=10.0, speedup=2.0),
        row("compile", us=9.5, speedup=2.1),
        row("liger", us=9.95, speedup=2.0),
    ]
    assert "fusion pays 2.0x at prefill, but compile is faster at some shape" == verdict(rows)


def test_nothing_timed_is_told():
    """Without a time there is no verdict, without eager no speed-up."""
    assert "nothing was timed" == verdict([row("eager", reason="no"), row("triton", reason="no")])
    assert "timed without eager: no speed-up is known" == verdict([row("triton", us=3.0)])


def test_a_model_has_a_verdict_too():
    """Its rows have no cache state, and ours are called fused."""
    rows = [
        row("fused", us=10.0, speedup=1.2)._replace(cache=""),
        row("compile", us=8.0, speedup=1.5)._replace(cache=""),
    ]
    assert "fusion pays 1.2x at prefill, but compile is faster at some shape" == verdict(rows)
