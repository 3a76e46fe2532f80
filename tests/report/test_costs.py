"""What a row says of its inferences' costs and first calls, as text and for programs."""

from __future__ import annotations

from rich.console import Console

from tests.support import records
from warpspan.records import Memory, Timing, Usage
from warpspan.report.costs import CostFigures, FirstCalls
from warpspan.report.quantiles import Quantiles
from warpspan.report.summary import summarize
from warpspan.report.text import render

USED = Usage(
    gpu_time_s=0.2,
    sm_cycles_active=5e9,
    sm_cycles_elapsed=3.5e8,
    sm_utilization=0.6,
    energy_j=90.0,
    utilization=0.97,
    throttle_reasons=("sw_power_cap",),
)


def text(inferences) -> str:
    """What is printed."""
    console = Console(width=300, color_system=None)
    with console.capture() as capture:
        console.print(render(summarize(inferences), console))
    return capture.get()


def test_means_are_over_the_inferences_that_have_a_value():
    """One inference with everything, one that ran while nothing was sampled."""
    inferences = [
        records.inference(
            usage=USED,
            timing=Timing(cpu_time_s=0.1, gc_time_s=0.001, gc_count=2),
            memory=Memory(oom_requested_bytes=1 << 30),
        ),
        records.inference(
            usage=Usage(energy_j=30.0, throttle_reasons=()), timing=Timing(cpu_time_s=0.3)
        ),
    ]
    (row,) = summarize(inferences).rows
    assert row.costs == CostFigures(
        gpu_time_s=0.2,
        sm_cycles_active=5e9,
        sm_cycles_elapsed=3.5e8,
        energy_j=60.0,
        sm_utilization=0.6,
        utilization=0.97,
        cpu_time_s=0.2,
        gc_time_s=0.001,
        gc_count=2,
        throttled_share=0.5,
        throttle_reasons={"sw_power_cap": 1},
        oom_requested_max_bytes=1 << 30,
    )
    assert {"energy_j": 60.0, "gc_count": 2, "oom_requested_max_bytes": 1 << 30}.items() <= (
        row.to_json()["costs"].items()
    )


def test_costs_in_the_table():
    """Each with its unit; throttling has a line with its reasons."""
    lines = text([records.full_inference()]).splitlines()
    (cells,) = [line.split() for line in lines if line.startswith("forward BertModel  ")]
    for value in ("100 ms", "1.00 ms", "200 ms", "5.00 G", "350 M", "90.0 J", "60%", "97%", "7 B"):
        assert value in " ".join(cells)
    assert "forward BertModel while the GPU was throttled: sw power cap 1." in lines


def test_nothing_to_say():
    """Without throttling, collections and failed allocations there are no columns of them."""
    printed = text(
        [
            records.inference(usage=USED._replace(throttle_reasons=())),
            records.inference(timing=Timing(gc_time_s=0.0, gc_count=0)),
        ]
    )
    for heading in ("throttled", "garbage", "allocation"):
        assert heading not in printed


def test_the_first_call_of_each_process_is_apart():
    """The longest of the first ones, and the percentiles of all that came later."""
    calls = [("p", 0, 9.0), ("p", 1, 1.0), ("p", 2, 2.0), ("q", 5, 4.0), ("q", 6, 1.0)]
    (row,) = summarize(
        records.inference(process=process, start_ns=start_ns, duration_s=duration_s)
        for process, start_ns, duration_s in reversed(calls)
    ).rows
    assert row.first_calls == FirstCalls(9.0, Quantiles(1.0, 2.0, 2.0))
    assert {"first_call_s": 9.0, "later_duration_p99_s": 2.0}.items() <= row.to_json().items()


def test_first_calls_are_shown_where_they_stand_out():
    """More than twice as long as the later ones; the row beside has its own."""
    slow = [records.inference(start_ns=at, duration_s=of) for at, of in enumerate((9.0, 1.0, 1.0))]
    printed = text([*slow, records.inference(operation="encode")]).split("\n")
    assert ["first", "later"] == [word for word in printed[2].split() if word in ("first", "later")]
    assert "9.00 s  1.00 s" in next(line for line in printed if line.startswith("forward"))
    steady = [records.inference(start_ns=at) for at in range(3)]
    assert "first" not in text(steady)
