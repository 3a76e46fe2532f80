"""Requests out of OTLP JSON lines: spans that inferences may be inside of."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from warpspan.records.request import Request, RequestKind
from warpspan.sources.otlp_json import OtlpJsonReader


def read(*spans: dict[str, Any]) -> list[Request]:
    resource = {"attributes": [{"key": "service.instance.id", "value": {"stringValue": "one"}}]}
    message = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [*spans]}]}]}
    reader = OtlpJsonReader(io.BytesIO(json.dumps(message).encode() + b"\n"))
    assert ([], 0) == ([*reader], reader.broken_spans)
    return [*reader.requests]


def span(**fields: Any) -> dict[str, Any]:
    return {
        "name": "POST /embed",
        "traceId": "a" * 32,
        "spanId": "b" * 16,
        "parentSpanId": "c" * 16,
        "startTimeUnixNano": "5",
        "endTimeUnixNano": "9",
        **fields,
    }


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"kind": 2}, RequestKind.SERVER),
        ({"kind": "SPAN_KIND_SERVER"}, RequestKind.SERVER),
        ({"kind": 5}, RequestKind.CONSUMER),
        ({"kind": "SPAN_KIND_CONSUMER", "parentSpanId": ""}, RequestKind.CONSUMER),
        ({"kind": 1, "parentSpanId": ""}, RequestKind.ROOT),
    ],
)
def test_servers_consumers_and_roots_are_requests(fields, kind):
    """By number or by name, as the exporters write them."""
    process = '{"service.instance.id": "one"}'

    assert [Request(5, 9, "a" * 32, "POST /embed", process, kind)] == read(span(**fields))


@pytest.mark.parametrize(
    "fields", [{"kind": 3}, {"kind": 1}, {"kind": 2, "startTimeUnixNano": "never"}, {"kind": []}]
)
def test_clients_internal_and_broken_spans_are_none(fields):
    """And nothing fails."""
    assert [] == read(span(**fields))
