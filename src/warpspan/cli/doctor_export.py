"""The check of the export: a test span and a metric by the path that the environment sets."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from warpspan.cli.finding import Finding
from warpspan.cli.port import Speech, speech
from warpspan.export import official

_TIMEOUT_S = 3.0
_OTLP = {"otlp", "warpspan_otlp", "otlp_proto_grpc", "otlp_proto_http"}
_FIXED = {"otlp_proto_grpc": "grpc", "otlp_proto_http": "http/protobuf"}
_SIGNALS = ("traces", "metrics")
_ITEMS = {"traces": "span", "metrics": "metric"}
_PORTS = {"grpc": 4317, "http/protobuf": 4318}
_SPEAKS: dict[str, Speech] = {"grpc": "gRPC", "http/protobuf": "HTTP"}
_ENDPOINT, _PROTOCOL = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"
# What an answer means, by words of the official exporters' messages; the first that fits.
_ANSWERS = (
    (
        r"\b401\b|UNAUTHENTICATED",
        "it wants credentials (401)",
        "OTEL_EXPORTER_OTLP_HEADERS=authorization=…",
    ),
    (
        r"\b403\b|PERMISSION_DENIED",
        "these credentials are not allowed to write (403)",
        "correct OTEL_EXPORTER_OTLP_HEADERS",
    ),
    (
        r"\b404\b|UNIMPLEMENTED",
        "it has no OTLP at this path (404)",
        "give OTEL_EXPORTER_OTLP_ENDPOINT without /v1/…, or each signal's own variable with it",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|self.signed",
        "its certificate is not trusted here",
        "OTEL_EXPORTER_OTLP_CERTIFICATE=the file of its authority",
    ),
    (
        r"CERTIFICATE_REQUIRED|certificate required|bad certificate|HANDSHAKE_FAILURE",
        "it wants the certificate of a client",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY",
    ),
    (r"\b429\b|RESOURCE_EXHAUSTED", "it takes no more now (429)", "look at the backend's limits"),
    (
        r"timeout|timed out|DEADLINE_EXCEEDED",
        f"it did not answer in {_TIMEOUT_S:g} s",
        "look at the backend's own log",
    ),
)


class _Way(NamedTuple):
    """How signals go out.

    Args:
        protocol: `grpc` or `http/protobuf`.
        endpoint: as it was set; empty for the default.
        variable: which variable set it.
    """

    protocol: str
    endpoint: str
    variable: str


def exporters(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether a span and a metric arrive where OTLP goes; these are really sent."""
    ways: dict[_Way, list[str]] = {}
    for signal in _SIGNALS:
        chosen = {
            name.strip()
            for name in environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").split(",")
        }
        if not chosen & _OTLP:
            continue
        specific = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
        variable = specific if environ.get(specific) else _ENDPOINT
        fixed = next((_FIXED[name] for name in chosen if name in _FIXED), None)
        try:
            protocol = fixed or official.protocol(signal, environ)
        except ValueError as error:
            yield Finding("error", "exporter", str(error))
            return
        way = _Way(protocol, environ.get(variable, "").strip(), variable)
        ways.setdefault(way, []).append(signal)
    if not any(way.endpoint for way in ways):
        yield Finding(
            "note",
            "exporter",
            "no OTLP endpoint is set: `warpspan run` writes a file instead",
            f"{_ENDPOINT}=http://localhost:4317 for a backend",
        )
        return
    for way, signals in ways.items():
        yield _check(way, signals, environ)


def _check(way: _Way, signals: list[str], environ: Mapping[str, str]) -> Finding:
    """What is wrong with a way, from the form of its address to the backend's answer."""
    port = _PORTS[way.protocol]
    parts = urlsplit(way.endpoint if "//" in way.endpoint else f"//{way.endpoint}")
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, port)
    except ValueError:
        port = 0
    host = parts.hostname or ("" if way.endpoint else "localhost")
    if not host or not port:
        return _wrong(
            way, f"{way.endpoint!r} is not an address", f"http://host:{_PORTS[way.protocol]}"
        )
    shown = f"{host}:{port}"
    if way.endpoint and parts.scheme not in ("http", "https") and way.protocol != "grpc":
        return _wrong(way, f"{way.endpoint!r} has no scheme, which HTTP needs", f"http://{shown}")
    carried = " and ".join(signals)
    try:
        spoken = speech(host, port)
    except OSError as error:
        why = (error.strerror or str(error) or type(error).__name__).lower()
        said = f"{shown} for {carried} can't be reached: {why}"
        return Finding("error", "exporter", said, f"start the backend, or correct {way.variable}")
    return _unfit(way, shown, parts.scheme, spoken, environ) or _send(way, shown, signals, environ)


def _unfit(
    way: _Way, shown: str, scheme: str, spoken: Speech | None, environ: Mapping[str, str]
) -> Finding | None:
    """The protocol and the encryption that are set, where the server speaks others."""
    # The official gRPC exporter encrypts where an address has no scheme.
    insecure = environ.get("OTEL_EXPORTER_OTLP_INSECURE", "").strip().lower() == "true"
    encrypted = scheme == "https" or (
        way.protocol == "grpc" and scheme != "http" and bool(way.endpoint) and not insecure
    )
    if encrypted and spoken in ("HTTP", "gRPC"):
        why = "https" if scheme == "https" else "no scheme, which gRPC takes for https"
        said = f"{shown} speaks {spoken} without TLS, but {way.variable} has {why}"
        return _wrong(way, said, f"http://{shown}")
    if not encrypted and spoken == "TLS":
        return _wrong(way, f"{shown} speaks TLS, but the address is not https", f"https://{shown}")
    if spoken in ("HTTP", "gRPC") and spoken != _SPEAKS[way.protocol]:
        other = next(name for name, said in _SPEAKS.items() if said == spoken)
        return Finding(
            "error",
            "exporter",
            f"{shown} speaks {spoken}, but the protocol is {way.protocol}",
            f"{_PROTOCOL}={other}, or port {_PORTS[way.protocol]}, where {way.protocol} usually is",
        )
    return None


def _send(way: _Way, shown: str, signals: list[str], environ: Mapping[str, str]) -> Finding:
    for signal in signals:
        with _environment(environ), _messages() as messages:
            try:
                exporter = official.make(
                    official.OTLP,
                    signal,
                    {**environ, _PROTOCOL: way.protocol},
                    timeout_s=_TIMEOUT_S,
                )
                sent = exporter.export(_item(signal)).name == "SUCCESS"
                exporter.shutdown()
            except Exception as error:
                sent = False
                messages.append(f"{type(error).__name__}: {error}")
        if not sent:
            answer = " ".join(messages) or "it gave no reason"
            for pattern, said, fix in _ANSWERS:
                if re.search(pattern, answer, re.IGNORECASE):
                    return Finding(
                        "error", "exporter", f"{shown} refused a test {_ITEMS[signal]}: {said}", fix
                    )
            said = f"{shown} refused a test {_ITEMS[signal]}: {answer[:200]}"
            return Finding("error", "exporter", said, "look at the backend's own log")
    items = " and ".join(f"a test {_ITEMS[signal]}" for signal in signals)
    took = "were" if len(signals) > 1 else "was"
    return Finding("ok", "exporter", f"{items} {took} accepted by {shown} ({way.protocol})")


def _item(signal: str) -> Any:
    """A span, or a metric, of a service that is called as what it is."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    resource = Resource({"service.name": "warpspan-doctor"})
    if signal == "traces":
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        span = provider.get_tracer("warpspan").start_span("warpspan doctor")
        span.end()
        return [span]
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], resource, shutdown_on_exit=False)
    meters.get_meter("warpspan").create_counter("warpspan.doctor").add(1)
    return reader.get_metrics_data()


@contextmanager
def _environment(environ: Mapping[str, str]) -> Iterator[None]:
    """The official exporters read their settings from this process's environment."""
    before = dict(os.environ)
    os.environ.update({name: environ[name] for name in environ if name.startswith("OTEL_")})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _messages() -> Iterator[list[str]]:
    """What the official exporters log, in place of the screen."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("opentelemetry")
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)


def _wrong(way: _Way, said: str, better: str) -> Finding:
    return Finding("error", "exporter", said, f"{way.variable}={better}")
