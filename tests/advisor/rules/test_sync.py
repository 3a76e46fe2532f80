"""A wait of the host counts where the device idles, and only there."""

from __future__ import annotations

from tests.sources.helpers.kineto_trace import KinetoTrace
from tests.support.observations import GPU, claims, named, recording, series, shares, verdict
from warpspan.records import SyncKind, SyncPlace, Syncs


def waiting(count: int, *, kernel_us: float, gap_us: float, waits: bool) -> KinetoTrace:
    """Calls with five kernels each, after each of which the host reads a value, or does not."""
    made = KinetoTrace()
    step = kernel_us + gap_us
    for at in range(count):
        start = 1000 + at * 5 * step
        made.annotation("forward", start, 5 * step)
        for kernel in range(5):
            begin = start + kernel * step
            made.work(begin + 5, kernel_us, launch=begin + 1)
            if waits:
                made.op("aten::item", begin + 4, kernel_us + 4)
                made.call("cudaStreamSynchronize", begin + 4, kernel_us + 4)
    return made


def test_a_wait_that_drains_the_device_costs_the_gap_behind_it():
    """The host launches the next kernel only when the wait is over."""
    found = verdict(recording(waiting(20, kernel_us=50, gap_us=50, waits=True)))

    assert (["sync"], [0.5]) == (named(found)[0], shares(found, "sync"))
    assert "cudaStreamSynchronize" == found.bottlenecks[0].evidence["call"]
    assert 5 == found.bottlenecks[0].evidence["waits_per_inference"]


def test_the_same_gaps_without_waits_are_launches():
    """Nothing is drained."""
    found = verdict(recording(waiting(20, kernel_us=50, gap_us=50, waits=False)))

    assert ["launch"] == named(found)[0]


def test_a_wait_while_the_device_works_costs_nothing():
    """As on a saturated device: the host may as well wait."""
    found = verdict(recording(waiting(20, kernel_us=500, gap_us=10, waits=True)))

    assert (["device"], [], []) == named(found)


def test_without_kernels_a_wait_is_a_fact_and_no_cause():
    """The line is named; whether the device idled is not known."""
    syncs = Syncs(
        37,
        0.03,
        kinds=(SyncKind("item", 37, 0.03),),
        places=(SyncPlace("item", "app.py", 7, "app.step", 37, 0.03),),
    )

    found = verdict(series(30, every_s=0.05, device=GPU, syncs=syncs))

    assert (["cant_tell"], [], ["sync"]) == named(found)
    assert "item in app.step (app.py:7)" in found.cant_tell[0].missing


def test_short_waits_are_not_spoken_of():
    """Half a percent of the duration."""
    syncs = Syncs(1, 0.0002, kinds=(SyncKind("item", 1, 0.0002),))

    found = verdict(series(30, every_s=0.05, device=GPU, syncs=syncs))

    assert "sync" not in {*claims(found), *named(found)[2]}
