"""Receivers of OTLP on this machine that keep what they get, as the official messages."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_REQUESTS: dict[str, tuple[Any, Any, str]] = {
    "traces": (
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    ),
    "metrics": (
        ExportMetricsServiceRequest,
        ExportMetricsServiceResponse,
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    ),
    "logs": (
        ExportLogsServiceRequest,
        ExportLogsServiceResponse,
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    ),
}


class OtlpReceiver:
    """What a receiver got, and how it answers.

    Args:
        endpoint: for OTEL_EXPORTER_OTLP_ENDPOINT.
        protocol: for OTEL_EXPORTER_OTLP_PROTOCOL.
    """

    def __init__(self, endpoint: str, protocol: str) -> None:
        self.endpoint = endpoint
        self.protocol = protocol
        #: Requests that were answered with success, each with its signal.
        self.requests: list[tuple[str, Any]] = []
        #: What was sent along with them: HTTP headers or gRPC metadata.
        self.headers: list[dict[str, str]] = []
        #: HTTP status or, on gRPC, anything but 200 for UNAVAILABLE.
        self.status = 200
        #: Requests wait for this before they are answered.
        self.answering = threading.Event()
        self.answering.set()
        self._changed = threading.Condition()
        #: Requests that arrived, answered or not.
        self.arrived = 0

    @property
    def environ(self) -> dict[str, str]:
        """The variables that send everything here."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol,
        }

    def got(self, signal: str) -> list[Any]:
        """The messages of a signal."""
        return [message for kind, message in self.requests if kind == signal]

    def span_names(self) -> list[str]:
        """Names of all spans, in the order of their arrival."""
        return [
            span.name
            for request in self.got("traces")
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    def wait(self, requests: int = 1, timeout_s: float = 120.0, *, answered: bool = True) -> None:
        """Wait until so many requests were answered with success, or only arrived.

        Raises:
            TimeoutError: they were not.
        """
        with self._changed:
            if not self._changed.wait_for(
                lambda: (len(self.requests) if answered else self.arrived) >= requests, timeout_s
            ):
                raise TimeoutError(f"{len(self.requests)} of {requests} requests arrived")

    def take(self, signal: str, body: bytes, headers: dict[str, str]) -> int:
        """Take a request, wait until it may be answered, and give the status."""
        with self._changed:
            self.arrived += 1
            self._changed.notify_all()
        self.answering.wait()
        with self._changed:
            if self.status == 200:
                message = _REQUESTS[signal][0]()
                message.ParseFromString(body)
                self.requests.append((signal, message))
                self.headers.append(headers)
                self._changed.notify_all()
            return self.status


@contextmanager
def http_receiver() -> Iterator[OtlpReceiver]:
    """A receiver of OTLP/HTTP with protobuf."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.take(self.path.rpartition("/")[2], body, headers)
            try:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:
                pass  # a client that was killed

        def log_message(self, *_: Any) -> None:
            """Nothing: tests read standard error."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that was killed is no error of ours."""

    server = Server(("127.0.0.1", 0), Handler)
    receiver = OtlpReceiver(f"http://127.0.0.1:{server.server_port}", "http/protobuf")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.answering.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def grpc_receiver() -> Iterator[OtlpReceiver]:
    """A receiver of OTLP/gRPC without TLS."""
    import grpc  # type: ignore[import-untyped]

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, call: Any) -> Any:
            found = [
                (signal, response)
                for signal, (_, response, method) in _REQUESTS.items()
                if method == call.method
            ]
            if not found:
                return None
            signal, response = found[0]

            def answer(body: bytes, context: Any) -> bytes:
                headers = {item.key: item.value for item in context.invocation_metadata()}
                if receiver.take(signal, body, headers) != 200:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "unavailable")
                return bytes(response().SerializeToString())

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(4), options=_OPTIONS)
    server.add_generic_rpc_handlers((Handler(),))
    receiver = OtlpReceiver(f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", "grpc")
    server.start()
    try:
        yield receiver
    finally:
        receiver.answering.set()
        server.stop(None).wait()


_OPTIONS: Sequence[tuple[str, int]] = (("grpc.max_receive_message_length", 64 << 20),)
