"""Waits and copies of a row: summed, and shown only where there are any."""

from __future__ import annotations

from rich.console import Console

from tests.support import records
from warpspan.records import (
    Device,
    Inference,
    Model,
    Site,
    SyncKind,
    SyncPlace,
    Syncs,
    Transfer,
    Transfers,
)
from warpspan.report.summary import summarize
from warpspan.report.syncs import Waiting
from warpspan.report.text import render

SITE = Site("/app/decode.py", 42, "decode.Decoder.forward")


def inference(**values) -> Inference:
    """An inference of Net on a GPU."""
    return records.inference(device=Device("cuda", 0), model=Model("Net"), **values)


def waiting() -> list[Inference]:
    """One that waits often, one that copies, and one that does neither."""
    items = SyncKind("item", 37, 0.3)
    kinds = (SyncKind("cpu", 1, 0.2), items)
    places = (SyncPlace("cpu", *SITE, 1, 0.2), SyncPlace("item", *SITE, 1, 0.01))
    return [
        inference(
            syncs=Syncs(
                total=38,
                stalled_s=0.5,
                longest_kind="cpu",
                longest_s=0.2,
                longest_site=SITE,
                repeated_kind="item",
                repeated_site=SITE,
                kinds=kinds,
                places=places,
            )
        ),
        inference(
            transfers=Transfers(
                h2d=Transfer(
                    total=2, nbytes=3 << 20, pageable_bytes=1 << 20, weight_bytes=0, time_s=0.25
                ),
                d2h=Transfer(total=1, nbytes=4, pageable_bytes=4, weight_bytes=0),
            ),
            syncs=Syncs(
                total=1,
                stalled_s=0.25,
                longest_kind="to",
                longest_s=0.25,
                longest_site=None,
                repeated_kind=None,
                repeated_site=None,
                kinds=(SyncKind("to", 1, 0.25),),
            ),
        ),
        inference(),
    ]


def test_sums():
    """Over all inferences of the row; what was not measured is absent."""
    (row,) = summarize(waiting()).rows
    assert row.waiting == Waiting(
        inference_count=3,
        sync_count=39,
        sync_time_s=0.75,
        sync_kinds={"item": 37, "cpu": 1, "to": 1},
        sync_site="decode.Decoder.forward (/app/decode.py:42)",
        sync_site_time_s=0.21000000000000002,
        h2d=Transfer(total=2, nbytes=3 << 20, pageable_bytes=1 << 20, weight_bytes=0, time_s=0.25),
        d2h=Transfer(total=1, nbytes=4, pageable_bytes=4, weight_bytes=0, time_s=None),
        d2d=Transfer(total=0, nbytes=0, pageable_bytes=0, weight_bytes=0, time_s=None),
    )


def test_the_place_of_most_of_the_time():
    """Many waits of middling length at one line outweigh the longest one, which is elsewhere."""
    loop, handle = Site("/app/decode.py", 42, "decode.step"), Site("/app/serve.py", 7, "serve")
    syncs = Syncs(
        total=49,
        stalled_s=0.5,
        longest_kind="cpu",
        longest_s=0.02,
        longest_site=handle,
        kinds=(SyncKind("cpu", 1, 0.02), SyncKind("item", 48, 0.48)),
        places=(SyncPlace("item", *loop, 48, 0.48), SyncPlace("cpu", *handle, 1, 0.02)),
    )
    (row,) = summarize([inference(syncs=syncs)]).rows
    assert ("decode.step (/app/decode.py:42)", 0.48) == (
        row.waiting.sync_site,
        row.waiting.sync_site_time_s,
    )


def test_one_place_reached_by_two_kinds_of_calls():
    """The time at a line is that of all calls on it."""
    near, far = Site("/app/a.py", 1, "a"), Site("/app/b.py", 2, "b")
    places = (
        SyncPlace("item", *far, 1, 0.3),
        SyncPlace("item", *near, 1, 0.2),
        SyncPlace("cpu", *near, 1, 0.2),
    )
    (row,) = summarize([inference(syncs=Syncs(3, 0.7, places=places))]).rows
    assert ("a (/app/a.py:1)", 0.4) == (row.waiting.sync_site, row.waiting.sync_site_time_s)


def test_json():
    """The keys for programs, only of rows that have any."""
    (row,) = summarize(waiting()).rows
    values = row.to_json()
    assert (39, 0.75, 37) == (
        values["sync_count"],
        values["sync_time_s"],
        values["sync_kinds"]["item"],
    )
    assert (2, 3 << 20, 1 << 20, 0, 0.25) == tuple(
        values[f"h2d_{name}"]
        for name in ("count", "bytes", "pageable_bytes", "weight_bytes", "time_s")
    )
    (row,) = summarize([inference()]).rows
    assert not any(name.startswith(("sync", "h2d")) for name in row.to_json())


def text(inferences) -> str:
    """What is printed."""
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(render(summarize(inferences), console))
    return capture.get()


def test_columns_and_a_line():
    """Waits and bytes a call, and where the time is waited; nothing without them."""
    printed = text(waiting())
    assert (
        "forward Net waits per call: item 12.3, cpu 0.33, to 0.33. 210 ms of 750 ms at" in printed
    )
    assert "decode.Decoder.forward (/app/decode.py:42)." in printed
    for cell in ("13.0", "250 ms", "1.00 MiB", "1 B"):
        assert cell in printed
    assert "waits" not in text([inference()])
