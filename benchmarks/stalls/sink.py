"""A backend on this machine that takes OTLP as fast as it comes, in a process of its own.

It keeps the requests as bytes and counts their spans when asked, between two measurements.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_TRACE_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Sink:
    """Receives OTLP/HTTP and OTLP/gRPC on ports of its choice."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        self.http_port = self._serve_http()
        self.grpc_port = self._serve_grpc()

    def count(self) -> int:
        """Spans since this was asked before."""
        bodies, self._bodies = self._bodies, []
        total = 0
        for body in bodies:
            request = ExportTraceServiceRequest()
            request.ParseFromString(body)
            total += sum(
                len(of_scope.spans)
                for of_resource in request.resource_spans
                for of_scope in of_resource.scope_spans
            )
        return total

    def _serve_http(self) -> int:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.endswith("/traces"):
                    sink._bodies.append(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_port

    def _serve_grpc(self) -> int:
        import grpc  # type: ignore[import-untyped]

        sink = self

        class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
            def service(self, call: Any) -> Any:
                def answer(body: bytes, _: Any) -> bytes:
                    if call.method == _TRACE_METHOD:
                        sink._bodies.append(body)
                    return b""

                return grpc.unary_unary_rpc_method_handler(answer)

        self._server = grpc.server(ThreadPoolExecutor(2))
        self._server.add_generic_rpc_handlers((Handler(),))
        port = int(self._server.add_insecure_port("127.0.0.1:0"))
        self._server.start()
        return port


def serve(orders: Connection) -> None:
    """Tell the ports, then answer each order with the spans so far, until there is no more."""
    sink = Sink()
    orders.send((sink.http_port, sink.grpc_port))
    while orders.recv() is not None:
        orders.send(sink.count())
