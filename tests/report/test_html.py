"""The page as text: escaped, whole, bounded, and without anything from elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources

import pytest

from warpspan.advisor.engine import advise
from warpspan.advisor.ledger import Idle, Ledger
from warpspan.advisor.observation import Observation
from warpspan.advisor.verdict import Advice
from warpspan.records import (
    Cache,
    Device,
    DeviceSample,
    Inference,
    Input,
    Memory,
    Model,
    Timing,
)
from warpspan.records.request import Request
from warpspan.report import html_data
from warpspan.report.html import Page, render_html, script_json
from warpspan.report.html_data import batch_points, histogram, over_time, timeline
from warpspan.report.html_parts import ledger_parts
from warpspan.report.summary import summarize
from warpspan.report.tracks import Group, Level, Slice

MS = 1_000_000
START = 1_760_000_000_000_000_000
HOSTILE = '</script><img src=x onerror="alert(1)">&amp;\''


def inference(number: int, **values) -> Inference:
    """One of a GPU, every 20 ms, of batch 1, 2, 4 in turn."""
    batch = 2 ** (number % 3)
    device_s = 0.004 + 0.001 * batch
    defaults = {
        "operation": "forward",
        "device": Device("cuda", 0, "GPU-1"),
        "model": Model("Net", parameter_count=1000, dtype="float32"),
        "input": Input(batch, 16, (batch, 16)),
        "timing": Timing(device_time_s=device_s, queue_time_s=0.001, concurrency=1),
        "memory": Memory(allocated_end_bytes=1 << 20, peak_bytes=(2 + number % 2) << 20),
        "cache": Cache(size_bytes=1000 * number, alive_bytes=1000 * number),
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "process": '{"process.pid": 7}',
    }
    start_ns = START + number * 20 * MS
    return Inference(start_ns=start_ns, duration_s=device_s + 0.002, **(defaults | values))


def run(count: int = 60, **values) -> Observation:
    """Inferences inside of requests, and samples of the device."""
    held = [inference(number, **values) for number in range(count)]
    requests = [
        Request(one.start_ns - 2 * MS, one.end_ns + MS, one.trace_id, "POST /", one.process)
        for one in held
    ]
    samples = [
        DeviceSample(0, "GPU-1", power_w=300.0 + number, unix_ns=START + number * 100 * MS)
        for number in range(10)
    ]
    return Observation(held, requests, samples)


def page(observation: Observation, name: str = "run.jsonl", remarks: tuple[str, ...] = ()) -> str:
    return render_html(
        Page(
            name,
            summarize(observation.inferences),
            advise(observation),
            observation,
            remarks,
            "1.2.3",
        )
    )


class Reader(HTMLParser):
    """What a browser makes of the text: elements that are open or nested wrong are errors."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, written: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(written)
        self.close()
        assert [] == self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag == self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)


def data_of(written: str) -> dict:
    (found,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', written, re.S
    )
    return json.loads(found)


def test_the_page_has_all_parts():
    """Each with a heading, and a name for readers of screens on each chart."""
    read = Reader(page(run(), remarks=("A remark.",)))
    headings = [attributes["id"] for tag, attributes in read.tags if tag == "h2"]
    assert [
        "verdicts", "ledger", "rows", "distributions", "timeline", "over-time", "batches", "slowest",
        "environment", "thresholds",
    ] == headings  # fmt: skip
    plots = [attributes for _, attributes in read.tags if "plot" in (attributes.get("class") or "")]
    assert 5 == len(plots)
    assert all(attributes["aria-label"] for attributes in plots)
    for said in (
        "run.jsonl",
        "60 inferences",
        "A remark.",
        f"{59:032x}",
        "device cuda:0",
        "warpspan 1.2.3, rules version 1",
    ):
        assert said in read.texts


def test_a_page_of_nothing():
    """Sections without anything are left out."""
    read = Reader(page(Observation([])))
    assert ["environment"] == [attributes["id"] for tag, attributes in read.tags if tag == "h2"]


def test_names_are_no_markup():
    """Of spans, models, errors, processes and files."""
    hostile = run(
        model=Model(HOSTILE),
        operation=HOSTILE,
        error_type=HOSTILE,
        process=HOSTILE,
        trace_id=HOSTILE,
    )
    written = page(hostile, HOSTILE, (HOSTILE,))
    read = Reader(written)
    assert [] == [tag for tag, _ in read.tags if tag == "img"]
    assert 3 == sum(tag == "script" for tag, _ in read.tags)
    assert HOSTILE in read.texts
    assert "POST /" in data_of(written)["timeline"]["names"]
    assert HOSTILE == json.loads(script_json(HOSTILE))


def test_nothing_is_fetched():
    """No address but those of namespaces and in comments, and the policy forbids the rest."""
    written = page(run())
    read = Reader(written)
    assert [] == [
        (tag, name)
        for tag, attributes in read.tags
        for name in ("src", "href", "action", "data", "srcset")
        if name in attributes
    ]
    policies = [one["content"] for tag, one in read.tags if tag == "meta" and "http-equiv" in one]
    assert [
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    ] == policies
    assert [] == re.findall(r"url\(|@import|fetch\(|XMLHttpRequest|WebSocket", written)


@pytest.mark.parametrize("count", [1, 30_000])
def test_the_page_is_small(count):
    """Under 2 MB, and what was left out for it is said."""
    observation = Observation([inference(number) for number in range(count)])
    summary = summarize(observation.inferences)
    written = render_html(Page("run", summary, Advice((), ()), observation, (), "1.2.3"))
    assert len(written.encode()) < 2_000_000
    assert (count > 1) == ("of 90,001 slices." in written)


def test_the_chart_library_is_the_published_one():
    """uPlot 1.6.32 as on npm, byte by byte, with its licence, which is in the page, too."""
    assert "Permission is hereby granted, free of charge" in page(Observation([]))
    folder = resources.files("warpspan.report") / "page" / "vendor"
    assert {
        "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
        "uPlot-LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    } == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("uPlot.iife.min.js", "uPlot.min.css", "uPlot-LICENSE.txt")
    }


def test_a_histogram_counts_every_value():
    """On edges that grow by the same factor; 0 has no place on them."""
    found = histogram([0.0, 1.0, 1.0, 1.05, 10.0, 99.0])
    assert (5, 1) == (sum(found["counts"]), found["zero_count"])
    factors = [
        after / before for before, after in zip(found["edges"], found["edges"][1:], strict=False)
    ]
    assert pytest.approx([10 ** (1 / 20)] * len(factors)) == factors
    assert found["edges"][0] <= 1.0 < 99.0 < found["edges"][-1]
    assert {"edges": [], "counts": [], "zero_count": 1} == histogram([0.0])
    wide = histogram([10.0**power for power in range(-9, 10)])
    assert (19, True) == (sum(wide["counts"]), len(wide["counts"]) <= 82)


def test_of_a_long_timeline_the_end_is_drawn():
    """Slice by slice, as many as fit, of all lanes from one time on."""
    group = Group("device")
    group.add("device", *(Slice("forward", n * 1000, n * 1000 + 900) for n in range(50_000)))
    group.add("idle", *(Slice("idle", n * 1000 + 900, n * 1000 + 1000) for n in range(50_000)))
    found = timeline([group], 0)
    busy, idle = (lane["slices"] for lane in found.lanes)
    assert (20_000, 100_000, 0) == found[4:]
    assert (40_000.0, 50_000.0) == (found.from_us, found.elapsed_us)
    assert ([40_000.0, 0.9, 0], [40_000.9, 0.1, 1]) == (busy[:3], idle[:3])
    assert 3 * html_data.SLICES_MAX == len(busy) + len(idle)


def test_a_short_timeline_is_whole():
    """Microseconds since the start, lane by lane."""
    group = Group("p")
    group.add("requests", Slice("POST /", 1000, 9000), Slice("POST /", 5000, 12_000))
    found = timeline([group], 1000)
    assert [
        {"group": "p", "name": "requests", "kind": "requests", "slices": [0.0, 8.0, 0]},
        {"group": "p", "name": "requests 2", "kind": "requests", "slices": [4.0, 7.0, 0]},
    ] == found.lanes
    assert (["POST /"], 0.0, 11.0, 2, 2, 0) == found[1:]


def test_lines_over_time_keep_their_peaks():
    """At most so many points, with the highest value of each; others of the same chart are null."""
    group = Group("cuda:0")
    group.counters["memory (bytes)"] = [Level(n, 5.0 + (n == 4321)) for n in range(10_000)]
    group.counters["other (bytes)"] = [Level(0, 1.0), Level(9_999, 2.0)]
    group.counters["alone (W)"] = [Level(0, 1.0)]
    (chart,) = over_time([group], 0)
    memory, other = chart["lines"]
    assert len(chart["x"]) <= html_data.POINTS_MAX
    assert (6.0, 5.0) == (max(memory["values"]), min(memory["values"]))
    assert [1.0, 2.0] == [value for value in other["values"] if value is not None]


def test_times_by_batch():
    """Medians of device times, without failed inferences."""
    held = [inference(number) for number in range(6)]
    held += [inference(0, error_type="ValueError"), inference(1, timing=Timing())]
    points = batch_points(held, lambda one: one.input.batch_size)
    assert [(1, 2, 0.005), (2, 3, 0.006), (4, 2, 0.008)] == [
        (size, count, pytest.approx(median)) for size, count, median, _, _ in points
    ]


def test_the_parts_of_a_ledger_add_up():
    """Copies alone are beside the rest of the busy time; what is not known is not drawn."""
    idle: dict[Idle, float | None] = dict.fromkeys(Idle)
    idle[Idle.OTHER] = 4.0
    ledger = Ledger(Device("cuda", 0), "", 10.0, 6.0, 1.0, idle)
    assert [("busy", 5.0), ("transfer", 1.0), ("other", 4.0)] == ledger_parts(ledger)
    assert [] == ledger_parts(ledger._replace(busy_s=None))
