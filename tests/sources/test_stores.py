"""Traces out of the stores' APIs, played by a server on this machine."""

import base64

import pytest

from tests.support.served import serving
from warpspan.sources.otlp_json import OtlpJsonReader
from warpspan.sources.stores import Api, Found, Jaeger, Lines, Search, StoreError, Tempo

NOW = 1_700_000_000


def span(span_id, **attributes):
    """A span of an inference in protobuf's own JSON, as stores give it back."""
    return {
        "traceId": base64.b64encode(bytes.fromhex("0a" * 16)).decode(),
        "spanId": base64.b64encode(bytes.fromhex(span_id)).decode(),
        "name": "forward BertModel",
        "kind": "SPAN_KIND_INTERNAL",
        "startTimeUnixNano": str(NOW * 10**9),
        "endTimeUnixNano": str(NOW * 10**9 + 5_000_000),
        "attributes": [
            {"key": "pytorch.operation.name", "value": {"stringValue": "forward"}},
            {"key": "pytorch.model.name", "value": {"stringValue": "BertModel"}},
            {"key": "pytorch.device.type", "value": {"stringValue": "cpu"}},
            *({"key": key, "value": value} for key, value in attributes.items()),
        ],
    }


def blocks(*spans):
    """The `resourceSpans` around spans."""
    return [{"resource": {"attributes": []}, "scopeSpans": [{"spans": list(spans)}]}]


def test_tempo():
    """It searches for inferences of the service, oldest first, and reads each trace whole."""

    def answer(path, query):
        if path == "/api/search":
            late = {"traceID": "b", "startTimeUnixNano": "2"}
            return 200, {"traces": [late, {"traceID": "a", "startTimeUnixNano": "1"}]}
        return 200, {"trace": {"resourceSpans": blocks(span("01" * 8))}}

    with serving(answer) as served:
        store = Tempo(Api(f"{served.url}/", {"Authorization": "Bearer x"}))
        found = store.find(Search(NOW - 60, NOW, "chat"))
        first = store.trace(found.ids[0])
    assert Found(["a".rjust(32, "0"), "b".rjust(32, "0")], []) == found
    query = {
        "q": '{ span.pytorch.operation.name != nil && resource.service.name = "chat" }',
        "start": str(NOW - 60),
        "end": str(NOW),
        "limit": "1000",
        "spss": "1",
    }
    assert ("/api/search", query, "Bearer x") == served.asked[0]
    assert f"/api/v2/traces/{'a'.rjust(32, '0')}" == served.asked[1][0]
    (read,) = first[0]["scopeSpans"][0]["spans"]
    assert ("0a" * 16, "01" * 8, 1, 0) == (
        read["traceId"],
        read["spanId"],
        read["kind"],
        read["status"]["code"],
    )


def test_tempo_before_its_second_api():
    """An older Tempo has traces under the first API, as `batches`."""

    def answer(path, _):
        if path.startswith("/api/v2/"):
            return 404, b""
        return 200, {"batches": blocks(span("01" * 8))}

    with serving(answer) as served:
        (block,) = Tempo(Api(served.url, {})).trace("0a" * 16)
    assert "01" * 8 == block["scopeSpans"][0]["spans"][0]["spanId"]


def test_more_traces_than_one_answer():
    """A full answer is asked for again in halves; a full second is named, and read in part."""
    traces = [(NOW + n // 1500, f"{n:032x}") for n in range(3200)]

    def answer(_, query):
        inside = [
            {"traceID": trace_id, "startTimeUnixNano": str(begin * 10**9)}
            for begin, trace_id in traces
            if int(query["start"]) <= begin < int(query["end"])
        ]
        return 200, {"traces": inside[: int(query["limit"])]}

    with serving(answer) as served:
        found = Tempo(Api(served.url, {})).find(Search(NOW, NOW + 16))
    assert 1000 + 1000 + 200 == len(found.ids)
    assert [NOW, NOW + 1] == found.cut_s
    assert sorted(found.ids) == list(found.ids)


def test_jaeger():
    """It asks every service, counts a trace of two services once, and makes lists of lists again."""

    def answer(path, query):
        if path == "/api/services":
            return 200, {"data": ["chat", "gate"]}
        if path == "/api/traces":
            begin = {"chat": 7, "gate": 5}[query["service"]]
            both = {"traceID": "ab", "spans": [{"startTime": 9}]}
            own = {"traceID": query["service"], "spans": [{"startTime": begin}]}
            return 200, {"data": [both, own]}
        shape = {"pytorch.input.shape": {"stringValue": "[2,128]"}}
        return 200, {"result": {"resourceSpans": blocks(span("01" * 8, **shape))}}

    with serving(answer) as served:
        store = Jaeger(Api(served.url, {}))
        found = store.find(Search(NOW - 60, NOW))
        (record,) = OtlpJsonReader(Lines(store, found.ids[:1]))
    assert Found(["gate", "chat", "ab"], []) == found
    query = {
        "service": "chat",
        "start": str((NOW - 60) * 10**6),
        "end": str(NOW * 10**6),
        "limit": "200",
    }
    assert ("/api/traces", query, None) == served.asked[1]
    assert (2, 128) == record.input.shape


def test_lines():
    """Each trace is a line, a span that the store has twice is read once, and progress is said."""
    twice = blocks(span("01" * 8), span("01" * 8)) + blocks(span("02" * 8))
    traces = {"a": twice, "b": [], "c": blocks(span("03" * 8))}

    def answer(path, _):
        return 200, {"trace": {"resourceSpans": traces[path.rpartition("/")[2]]}}

    passed = []
    with serving(answer) as served:
        lines = Lines(Tempo(Api(served.url, {})), list(traces), passed.append)
        records = list(OtlpJsonReader(lines))
    assert ["01" * 8, "02" * 8, "03" * 8] == [record.span_id for record in records]
    assert [3] == passed


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            401,
            b"",
            "URL refused with status 401: give a token with --header 'Authorization: Bearer …'",
        ),
        (500, b"too  many\nblocks", "URL answered with status 500: too many blocks"),
        (200, b"<html>", "URL/api/search did not answer with JSON: this is not the store's API"),
        (404, b"", "URL is not Tempo's API: it has no /api/search"),
    ],
)
def test_a_store_that_refuses(status, body, said):
    """One sentence says what is wrong and what to do."""
    with serving(lambda *_: (status, body)) as served, pytest.raises(StoreError) as raised:
        Tempo(Api(served.url, {})).find(Search(NOW - 60, NOW))
    assert said == str(raised.value).replace(served.url, "URL")


def test_nobody_answers():
    """One sentence, without the library's own text."""
    with serving(lambda *_: (200, {})) as served:
        url = served.url
    with pytest.raises(StoreError, match=f"^{url} did not answer: is the store running there.$"):
        Jaeger(Api(url, {})).find(Search(NOW - 60, NOW))


def test_no_address():
    """An address without its scheme is said before anything is sent."""
    with pytest.raises(StoreError, match=r"^localhost:3200 is no address: begin it with http://"):
        Api("localhost:3200", {})
