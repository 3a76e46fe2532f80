"""A request: the work that somebody waits for while inferences run inside it."""

from __future__ import annotations

from typing import NamedTuple

from warpspan.records.enums import StrEnum


class RequestKind(StrEnum):
    """What makes a span a request."""

    SERVER = "server"
    CONSUMER = "consumer"
    ROOT = "root"


class Request(NamedTuple):
    """A span around inferences.

    Args:
        start_ns: Unix time of its start.
        end_ns: Unix time of its end.
        trace_id: hex id of its trace.
        name: of the span.
        process: identity of the process that served it, as in `Inference`.
        kind: SERVER and CONSUMER by the kind of the span, ROOT for the root of a trace.
    """

    start_ns: int
    end_ns: int
    trace_id: str
    name: str = ""
    process: str = ""
    kind: RequestKind = RequestKind.SERVER
