"""`warpspan doctor` sends a span and a metric, and says what answered."""

from __future__ import annotations

import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from tests.support.otlp import grpc_receiver, http_receiver
from warpspan.cli import doctor_export
from warpspan.cli.finding import Finding

ENDPOINT, PROTOCOL = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"
RECEIVERS = {"grpc": grpc_receiver, "http/protobuf": http_receiver}
SPEECH = {"grpc": "gRPC", "http/protobuf": "HTTP"}


@pytest.fixture(params=RECEIVERS)
def receiver(request):
    with RECEIVERS[request.param]() as made:
        yield made


def exporters(**environ) -> list[Finding]:
    return list(doctor_export.exporters(environ))


def address(receiver) -> str:
    return receiver.endpoint.partition("//")[2]


def test_a_span_and_a_metric_arrive(receiver):
    """They are really sent, by a service that says what it is."""
    [found] = exporters(**receiver.environ)
    said = f"a test span and a test metric were accepted by {address(receiver)}"
    assert Finding("ok", "exporter", f"{said} ({receiver.protocol})") == found
    assert ["warpspan doctor"] == receiver.span_names()
    [metrics] = receiver.got("metrics")
    [attribute] = metrics.resource_metrics[0].resource.attributes
    assert ("service.name", "warpspan-doctor") == (attribute.key, attribute.value.string_value)


def test_the_other_protocol_on_the_port(receiver):
    """What speaks there, and the variable that fits."""
    [other] = set(RECEIVERS) - {receiver.protocol}
    port = {"grpc": 4317, "http/protobuf": 4318}[other]
    assert [
        Finding(
            "error",
            "exporter",
            f"{address(receiver)} speaks {SPEECH[receiver.protocol]}, but the protocol is {other}",
            f"{PROTOCOL}={receiver.protocol}, or port {port}, where {other} usually is",
        )
    ] == exporters(**receiver.environ | {PROTOCOL: other})
    assert 0 == receiver.arrived


def test_https_to_a_plain_port(receiver):
    """It is found before anything is sent."""
    shown = address(receiver)
    assert [
        Finding(
            "error",
            "exporter",
            f"{shown} speaks {SPEECH[receiver.protocol]} without TLS, but {ENDPOINT} has https",
            f"{ENDPOINT}=http://{shown}",
        )
    ] == exporters(**receiver.environ | {ENDPOINT: f"https://{shown}"})


def test_a_missing_scheme(receiver):
    """HTTP has no address without one; gRPC takes it for https."""
    shown = address(receiver)
    [found] = exporters(**receiver.environ | {ENDPOINT: shown})
    said = {
        "http/protobuf": f"{shown!r} has no scheme, which HTTP needs",
        "grpc": f"{shown} speaks gRPC without TLS, but {ENDPOINT} has no scheme, which gRPC takes "
        "for https",
    }[receiver.protocol]
    assert Finding("error", "exporter", said, f"{ENDPOINT}=http://{shown}") == found


@pytest.mark.parametrize(
    ("status", "said", "fix"),
    [
        (
            401,
            "it wants credentials (401)",
            "OTEL_EXPORTER_OTLP_HEADERS=authorization=…",
        ),
        (
            403,
            "these credentials are not allowed to write (403)",
            "correct OTEL_EXPORTER_OTLP_HEADERS",
        ),
        (
            404,
            "it has no OTLP at this path (404)",
            "give OTEL_EXPORTER_OTLP_ENDPOINT without /v1/…, or each signal's own variable with it",
        ),
    ],
)
def test_an_answer_that_is_no(status, said, fix):
    """By the status of HTTP."""
    with http_receiver() as receiver:
        receiver.status = status
        [found] = exporters(**receiver.environ)
        said = f"{address(receiver)} refused a test span: {said}"
    assert Finding("error", "exporter", said, fix) == found


@pytest.fixture
def encrypted(tmp_path):
    """A server of HTTPS whose certificate nobody knows."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    class Server(HTTPServer):
        def handle_error(self, *_):
            pass  # who does not trust us hangs up

    with Server(("localhost", 0), Quiet) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_http_to_an_encrypted_port(encrypted):
    """The scheme is what is wrong."""
    assert [
        Finding(
            "error",
            "exporter",
            f"{encrypted} speaks TLS, but the address is not https",
            f"{ENDPOINT}=https://{encrypted}",
        )
    ] == exporters(**{ENDPOINT: f"http://{encrypted}", PROTOCOL: "http/protobuf"})


def test_a_certificate_that_is_not_trusted(encrypted):
    """The variable for it is named."""
    assert [
        Finding(
            "error",
            "exporter",
            f"{encrypted} refused a test span: its certificate is not trusted here",
            "OTEL_EXPORTER_OTLP_CERTIFICATE=the file of its authority",
        )
    ] == exporters(**{ENDPOINT: f"https://{encrypted}", PROTOCOL: "http/protobuf"})


def test_nobody_listens():
    """Each way is one line."""
    with http_receiver() as receiver:
        environ = receiver.environ
    [found] = exporters(**environ)
    assert ("error", True) == (
        found.state,
        f"{address(receiver)} for traces and metrics can't be reached" in found.said,
    )


def test_a_protocol_that_there_is_not():
    """With those that there are."""
    [found] = exporters(**{ENDPOINT: "http://localhost:1", PROTOCOL: "http/json"})
    assert f"{PROTOCOL}='http/json' is not supported: give grpc or http/protobuf" == found.said


def test_no_endpoint():
    """Nothing is sent to a default that nobody chose."""
    [found] = exporters()
    assert "note" == found.state
    assert [] == exporters(OTEL_TRACES_EXPORTER="console", OTEL_METRICS_EXPORTER="none")[1:]


@pytest.mark.parametrize("endpoint", ["http://:4317", "http://host:port", "//"])
def test_an_endpoint_that_is_no_address(endpoint):
    """It is named, and what one looks like."""
    [found] = exporters(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=endpoint, OTEL_METRICS_EXPORTER="none")
    assert (
        Finding(
            "error",
            "exporter",
            f"{endpoint!r} is not an address",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://host:4317",
        )
        == found
    )
