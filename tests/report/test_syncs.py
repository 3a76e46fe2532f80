"""Waits and copies of a row: summed, and shown only where there are any."""

from __future__ import annotations

from rich.console import Console

from warpspan.records import Device, Inference, Model, Site, SyncKind, Syncs, Transfer, Transfers
from warpspan.report.summary import summarize
from warpspan.report.syncs import Waiting
from warpspan.report.text import render

SITE = Site("/app/decode.py", 42, "decode.Decoder.forward")


def inference(**values) -> Inference:
    """An inference of Net on a GPU."""
    return Inference("forward", 0, 1.0, Device("cuda", 0), Model("Net"), **values)


def waiting() -> list[Inference]:
    """One that waits often, one that copies, and one that does neither."""
    items = SyncKind("item", 37, 0.3)
    return [
        inference(
            syncs=Syncs(38, 0.5, "cpu", 0.2, SITE, "item", SITE, (SyncKind("cpu", 1, 0.2), items))
        ),
        inference(
            transfers=Transfers(
                h2d=Transfer(2, 3 << 20, 1 << 20, 0, 0.25), d2h=Transfer(1, 4, 4, 0)
            ),
            syncs=Syncs(1, 0.25, "to", 0.25, None, None, None, (SyncKind("to", 1, 0.25),)),
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
        h2d=Transfer(2, 3 << 20, 1 << 20, 0, 0.25),
        d2h=Transfer(1, 4, 4, 0, None),
        d2d=Transfer(0, 0, 0, 0, None),
    )


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
    assert "forward Net waits per call: item 12.3, cpu 0.33, to 0.33. Most of it in " in printed
    assert "decode.Decoder.forward (/app/decode.py:42)." in printed
    for cell in ("13.0", "250 ms", "1.00 MiB", "1 B"):
        assert cell in printed
    assert "waits" not in text([inference()])
