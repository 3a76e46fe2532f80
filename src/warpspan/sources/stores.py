"""Traces out of Tempo and Jaeger, as OTLP JSON lines: one line per trace, the oldest trace first."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import requests

from warpspan.signals import names

# Traces of one answer to a search. Jaeger's answers hold their spans as well.
_TEMPO_LIMIT, _JAEGER_LIMIT = 1_000, 200
# A search that finds as many is repeated for each half of its time, down to this.
_SHORTEST_S = 1
# A trace of 10,000 spans is about 20 MB; so many are read at once.
_AT_ONCE = 8
_TIMEOUT_S = 60.0
_ID_LENGTHS = {"traceId": 32, "spanId": 16, "parentSpanId": 16}
_KINDS = {
    f"SPAN_KIND_{name}": number
    for number, name in enumerate(
        ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
    )
}
_STATUS = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}


class StoreError(Exception):
    """A store gave no traces. The message says why, and what to do."""


class Search(NamedTuple):
    """Which traces are wanted.

    Args:
        start_s: Unix time from which on they began.
        end_s: Unix time until which they began.
        service: `service.name` of the process, or None for all.
    """

    start_s: int
    end_s: int
    service: str | None = None


class Found(NamedTuple):
    """Traces that match a search.

    Args:
        ids: in hexadecimal, the oldest first.
        cut_s: Unix times of the seconds that had more traces than a store gives for one search.
    """

    ids: Sequence[str]
    cut_s: Sequence[int]


class Store(Protocol):
    """A store of traces."""

    def find(self, search: Search) -> Found:
        """The traces that hold inferences, or may do so.

        Raises:
            StoreError: it gave no answer.
        """

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """The `resourceSpans` of a trace as OTLP JSON; empty where there is no such trace.

        Raises:
            StoreError: it gave no answer.
        """


class Api:
    """The HTTP API of a store.

    Args:
        url: where it is, with a path if it is behind a proxy.
        headers: sent with each request, such as an authorization.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise StoreError(f"{url} is no address: begin it with http:// or https://")
        self._session = requests.Session()
        self._session.headers.update(headers)

    def get(self, path: str, parameters: Mapping[str, str | int] | None = None) -> Any:
        """The JSON answer of a path; None where there is nothing under it.

        Raises:
            StoreError: it did not answer, refused, or answered with something else than JSON.
        """
        try:
            answer = self._session.get(self.url + path, params=parameters, timeout=_TIMEOUT_S)
        except requests.exceptions.SSLError as error:
            raise StoreError(f"{self.url} has no valid certificate: {error}") from error
        except requests.exceptions.Timeout as error:
            raise StoreError(
                f"{self.url} did not answer within {_TIMEOUT_S:.0f} s: choose a shorter --since"
            ) from error
        except requests.exceptions.RequestException as error:
            raise StoreError(f"{self.url} did not answer: is the store running there?") from error
        if answer.status_code == 404:
            return None
        if answer.status_code in (401, 403):
            raise StoreError(
                f"{self.url} refused with status {answer.status_code}: give a token with "
                "--header 'Authorization: Bearer …'"
            )
        if not answer.ok:
            said = " ".join(answer.text.split())[:200]
            raise StoreError(f"{self.url} answered with status {answer.status_code}: {said}")
        try:
            return answer.json()
        except ValueError as error:
            raise StoreError(
                f"{self.url}{path} did not answer with JSON: this is not the store's API"
            ) from error


class Tempo:
    """Grafana Tempo (https://grafana.com/docs/tempo/latest/api_docs/).

    Args:
        api: the address of its HTTP API.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    def find(self, search: Search) -> Found:
        """See `Store.find`."""
        condition = f"span.{names.PYTORCH_OPERATION_NAME} != nil"
        if search.service is not None:
            condition += f" && resource.service.name = {json.dumps(search.service)}"

        def within(start_s: int, end_s: int) -> list[tuple[int, str]]:
            answer = self._api.get(
                "/api/search",
                {
                    "q": f"{{ {condition} }}",
                    "start": start_s,
                    "end": end_s,
                    "limit": _TEMPO_LIMIT,
                    "spss": 1,
                },
            )
            if answer is None:
                raise StoreError(f"{self._api.url} is not Tempo's API: it has no /api/search")
            return [
                (int(trace.get("startTimeUnixNano", 0)), trace["traceID"].rjust(32, "0"))
                for trace in answer.get("traces") or ()
            ]

        return _found(*_in_pieces(within, search, _TEMPO_LIMIT))

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """See `Store.trace`."""
        answer = self._api.get(f"/api/v2/traces/{trace_id}")
        if answer is None:  # before Tempo 2.7, or no such trace
            answer = {"trace": self._api.get(f"/api/traces/{trace_id}") or {}}
        trace = answer.get("trace") or {}
        return _as_otlp(trace.get("resourceSpans") or trace.get("batches") or [])


class Jaeger:
    """Jaeger 1.62 and newer, and 2 (https://www.jaegertracing.io/docs/latest/apis/).

    Args:
        api: the address of its query service.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    def find(self, search: Search) -> Found:
        """See `Store.find`. Jaeger can't search for an attribute with any value."""
        services = [search.service] if search.service is not None else self._services()
        found: set[tuple[int, str]] = set()
        cut_s: set[int] = set()
        for service in services:
            some, cut = _in_pieces(functools.partial(self._within, service), search, _JAEGER_LIMIT)
            found |= some
            cut_s |= cut
        return _found(found, cut_s)

    def _within(self, service: str, start_s: int, end_s: int) -> list[tuple[int, str]]:
        parameters: dict[str, str | int] = {
            "service": service,
            "start": start_s * 1_000_000,
            "end": end_s * 1_000_000,
            "limit": _JAEGER_LIMIT,
        }
        answer = self._api.get("/api/traces", parameters)
        return [
            (min((span["startTime"] for span in trace["spans"]), default=0), trace["traceID"])
            for trace in (answer or {}).get("data") or ()
        ]

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """See `Store.trace`."""
        answer = self._api.get(f"/api/v3/traces/{trace_id}")
        if answer is None:
            return []
        blocks = _as_otlp(answer["result"]["resourceSpans"])
        for block in blocks:
            for span in _spans(block):
                for owner in (span, *span.get("events", ())):
                    for pair in owner.get("attributes", ()):
                        _restore_list(pair)
        return blocks

    def _services(self) -> list[str]:
        answer = self._api.get("/api/services")
        if answer is None:
            raise StoreError(f"{self._api.url} is not Jaeger's API: it has no /api/services")
        return [str(service) for service in answer.get("data") or ()]


class Lines:
    """The traces as lines of OTLP JSON, for `OtlpJsonReader`. Few are held at a time.

    Args:
        store: where they are.
        ids: which ones, in this order.
        passed: called with the number of traces read so far.
    """

    def __init__(
        self, store: Store, ids: Sequence[str], passed: Callable[[int], None] = lambda _: None
    ) -> None:
        self._lines = self._read(store, ids, passed)

    def readline(self, _limit: int = -1, /) -> bytes:
        """The next line; empty at the end.

        Raises:
            StoreError: the store gave no answer.
        """
        return next(self._lines, b"")

    @staticmethod
    def _read(store: Store, ids: Sequence[str], passed: Callable[[int], None]) -> Iterator[bytes]:
        with ThreadPoolExecutor(_AT_ONCE, "warpspan-report") as pool:
            for begin in range(0, len(ids), _AT_ONCE):
                piece = ids[begin : begin + _AT_ONCE]
                for blocks in pool.map(store.trace, piece):
                    if blocks:
                        yield json.dumps({"resourceSpans": _once(blocks)}).encode() + b"\n"
                passed(begin + len(piece))


def _in_pieces(
    within: Callable[[int, int], list[tuple[int, str]]], search: Search, limit: int
) -> tuple[set[tuple[int, str]], set[int]]:
    """Search, and search the halves of a time that has more traces than one answer.

    Returns:
        Begin and id of each trace, and the Unix times of the seconds that have more than `limit`.
    """
    found: set[tuple[int, str]] = set()
    cut_s: set[int] = set()
    pieces = [(search.start_s, search.end_s)]
    while pieces:
        start_s, end_s = pieces.pop()
        some = within(start_s, end_s)
        if len(some) >= limit and end_s - start_s > _SHORTEST_S:
            middle_s = (start_s + end_s) // 2
            pieces += [(start_s, middle_s), (middle_s, end_s)]
            continue
        found.update(some)
        if len(some) >= limit:
            cut_s.add(start_s)
    return found, cut_s


def _found(dated: set[tuple[int, str]], cut_s: set[int]) -> Found:
    return Found([trace_id for _, trace_id in sorted(dated)], sorted(cut_s))


def _spans(block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for scope in block.get("scopeSpans", ()):
        yield from scope.get("spans", ())


def _as_otlp(blocks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """OTLP JSON out of protobuf's own JSON, which has ids in base64 and enums by name."""
    for block in blocks:
        for span in _spans(block):
            for key, length in _ID_LENGTHS.items():
                if (value := span.get(key)) and len(value) != length:
                    span[key] = base64.b64decode(value).hex()
            kind, status = span.get("kind", 0), span.get("status", {})
            span["kind"] = _KINDS.get(kind, kind)
            code = status.get("code", 0)
            span["status"] = {**status, "code": _STATUS.get(code, code)}
    return list(blocks)


def _once(blocks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the second copy of a span: what is delivered at least once may be stored twice."""
    seen: set[str] = set()
    for block in blocks:
        for scope in block.get("scopeSpans", ()):
            kept = []
            for span in scope.get("spans", ()):
                if span.get("spanId") not in seen:
                    seen.add(span.get("spanId"))
                    kept.append(span)
            scope["spans"] = kept
    return list(blocks)


def _restore_list(pair: dict[str, Any]) -> None:
    """Make a list of ours a list again: Jaeger keeps it as a string of JSON."""
    text = pair["value"].get("stringValue", "")
    if not pair["key"].startswith("pytorch.") or not text.startswith("["):
        return
    try:
        items = json.loads(text)
    except ValueError:
        return
    pair["value"] = {"arrayValue": {"values": [_value(item) for item in items]}}


def _value(item: Any) -> dict[str, Any]:
    if isinstance(item, bool):
        return {"boolValue": item}
    if isinstance(item, int):
        return {"intValue": str(item)}
    return {"doubleValue": item} if isinstance(item, float) else {"stringValue": str(item)}
