"""Events one after another, out of whole, broken and foreign files."""

from __future__ import annotations

import gzip
import io
import json

import pytest

from warpspan.sources.profile import json_stream
from warpspan.sources.profile.json_stream import EventStream

A, B, C = ({"ph": "X", "name": name, "ts": 1} for name in "abc")


class Drip(io.BytesIO):
    """Gives few bytes at a time, whatever it is asked for."""

    def read(self, _size: int = -1) -> bytes:
        return super().read(7)

    read1 = read


def stream(text: str | bytes) -> tuple[list[dict], EventStream]:
    events = EventStream(io.BytesIO(text.encode() if isinstance(text, str) else text))
    return list(events), events


def test_events_and_header_are_read():
    """The header may stand on both sides of the events."""
    found, events = stream(json.dumps({"schemaVersion": 1, "traceEvents": [A, B], "name": "x"}))

    assert [A, B] == found
    assert {"schemaVersion": 1, "name": "x"} == events.header
    assert (2, 0, False) == (events.event_count, events.broken_count, events.cut)


def test_a_bare_list_is_a_trace():
    """Chrome's format allows it, and a list that nobody closed."""
    assert [A, B] == stream(json.dumps([A, B]))[0]
    assert [A] == stream("[" + json.dumps(A) + ",")[0]


def test_events_are_whole_however_the_file_arrives():
    """A window that ends in an event, a number or a character is read on."""
    text = json.dumps({"n": 1234567, "traceEvents": [A, {**B, "name": "größer 漢字"}, C]})
    data = Drip(json.dumps(json.loads(text), ensure_ascii=False).encode())

    events = EventStream(data)

    assert [A, {**B, "name": "größer 漢字"}, C] == list(events)
    assert ({"n": 1234567}, False) == (events.header, events.cut)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ('say "hi", then', 'say "hi", then'),
        (r"C:\path\new\x", "C:\\path\new\\x"),
        ('op<"a", "b">', 'op<"a", "b">'),
        ("two\nlines\tand more", "two\nlines\tand more"),
    ],
)
def test_names_that_are_not_escaped_are_repaired(name, expected):
    """Profilers write names as they are: quotes, backslashes, line ends."""
    broken = f'{{"ph": "X", "name": "{name}", "ts": 1, "args": {{"a": [1, 2]}}}}'
    text = f'{{"traceEvents": [{json.dumps(A)}, {broken}, {json.dumps(C)}]}}'

    found, events = stream(text)

    assert [A, {"ph": "X", "name": expected, "ts": 1, "args": {"a": [1, 2]}}, C] == found
    assert (0, False) == (events.broken_count, events.cut)


def test_the_last_event_is_repaired_as_well():
    """Nothing follows it but the end of the list."""
    found, events = stream('{"traceEvents":[{"ph":"X","name":"a "b"","args":{}}],"name":"x"}')

    assert [{"ph": "X", "name": 'a "b"', "args": {}}] == found
    assert (1, {"name": "x"}, False) == (events.repaired_count, events.header, events.cut)


@pytest.mark.parametrize(
    "broken", ['{"ph": "X",, "ts": 1}', '{"ph": "X" "ts": 1}', "17", '{"ph":}']
)
def test_a_broken_event_costs_itself_alone(broken):
    """It is counted, and the next one is read."""
    found, events = stream(f'{{"traceEvents": [{json.dumps(A)}, {broken}, {json.dumps(B)}]}}')

    assert [A, B] == found
    assert (1, False) == (events.broken_count, events.cut)


@pytest.mark.parametrize("kept", [1, 10, 30, 55, 75])
def test_a_file_that_breaks_off_gives_what_is_whole(kept):
    """It is said to be cut, and no event is taken for broken."""
    text = json.dumps({"traceEvents": [A, B]})[:-kept]

    found, events = stream(text)

    assert [A, B][: len(found)] == found
    assert (True, 0) == (events.cut, events.broken_count)
    assert ([A, B] if kept == 1 else found) == found


def test_a_compressed_file_that_breaks_off_gives_what_is_whole():
    """The bytes up to there are used."""
    events = [{**A, "ts": number} for number in range(50_000)]
    data = gzip.compress(json.dumps({"traceEvents": events}).encode(), 1)

    stream = EventStream(gzip.GzipFile(fileobj=io.BytesIO(data[: len(data) // 2])))
    found = list(stream)

    assert events[: len(found)] == found
    assert 20_000 < len(found) < 30_000
    assert stream.cut


@pytest.mark.parametrize("text", ["", "   ", "no JSON", '"a string"', "{", '{"a": 1}', '{"a": tru'])
def test_what_is_no_trace_has_no_events(text):
    """Nothing is found, and nothing raises."""
    found, events = stream(text)

    assert ([], False) == (found, events.found)


def test_nan_is_read_as_such():
    """Kineto writes it; what uses the number decides."""
    (event,), _ = stream('{"traceEvents": [{"ph": "X", "dur": NaN}]}')

    assert event["dur"] != event["dur"]


def test_an_endless_event_does_not_fill_the_memory(monkeypatch):
    """One longer than any event is, gives up the rest."""
    monkeypatch.setattr(json_stream, "MAX_VALUE_CHARS", 1000)
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", 100)
    endless = '{"ph": "X", "name": "' + "x" * 10_000

    found, events = stream(f'{{"traceEvents": [{json.dumps(A)}, {endless}')

    assert [A] == found
    assert events.cut


def test_bytes_that_are_no_text_are_replaced():
    """A name in another encoding does not end the trace."""
    found, _ = stream(b'\xef\xbb\xbf{"traceEvents": [{"ph": "X", "name": "\xff"}]}')

    assert [{"ph": "X", "name": "\N{REPLACEMENT CHARACTER}"}] == found
