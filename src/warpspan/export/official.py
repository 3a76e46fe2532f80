"""OpenTelemetry's own exporters: OTLP as the standard variables choose it, or its JSON file."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from warpspan.export import appender

#: Where an exporter sends to.
OTLP, FILE = "otlp", "file"

_PACKAGES = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http",
}
_CLASSES = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}
_FILE_PACKAGE = "opentelemetry.exporter.otlp.json.file"
_FILE_CLASSES = {
    "traces": ("trace_exporter", "FileSpanExporter"),
    "metrics": ("metric_exporter", "FileMetricExporter"),
}
_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
_INSTALL = "pip install warpspan"


def protocol(signal: str, environ: Mapping[str, str]) -> str:
    """The protocol for a signal: the variable of that signal, the general one, gRPC.

    Raises:
        ValueError: with a sentence on what to set, or what to install.
    """
    specific = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"
    variable = specific if environ.get(specific) else _PROTOCOL
    chosen = (environ.get(variable) or "grpc").strip()
    package = _PACKAGES.get(chosen)
    if package is None:
        raise ValueError(
            f"{variable}={chosen!r} is not supported: give {' or '.join(sorted(_PACKAGES))}"
        )
    if not _is_installed(package):
        name = package.removesuffix(".grpc").removesuffix(".http").replace(".", "-")
        suffix = package.rpartition(".")[2]
        raise ValueError(f"the exporter warpspan_otlp needs {package}: pip install {name}-{suffix}")
    return chosen


def check(target: str, signal: str, environ: Mapping[str, str]) -> None:
    """Find what is wrong with the settings before the first export.

    Raises:
        ValueError: with a sentence on what to set, or what to install.
    """
    if target == OTLP:
        protocol(signal, environ)
    elif not _is_installed(_FILE_PACKAGE):
        raise ValueError(f"the exporter warpspan_file needs {_FILE_PACKAGE}: {_INSTALL}")


def make(
    target: str, signal: str, environ: Mapping[str, str], *, timeout_s: float | None = None
) -> Any:
    """The official exporter, configured by this process's own environment.

    Args:
        target: where it sends to.
        signal: what it sends.
        environ: the environment.
        timeout_s: how long a request with its repetitions may take, instead of what is set.
    """
    if target == FILE:
        module, name = _FILE_CLASSES[signal]
        exporter = getattr(importlib.import_module(f"{_FILE_PACKAGE}.{module}"), name)
        return exporter(stream=appender.appender(environ))
    module, name = _CLASSES[signal]
    package = _PACKAGES[protocol(signal, environ)]
    made = getattr(importlib.import_module(f"{package}.{module}"), name)
    return made() if timeout_s is None else made(timeout=timeout_s)


def address(target: str, signal: str, environ: Mapping[str, str]) -> str:
    """Where a signal goes, in words: host and port, or the file. Never a secret."""
    if target == FILE:
        return appender.path(environ)
    specific = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    endpoint = specific or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint:
        return f"localhost:{4317 if protocol(signal, environ) == 'grpc' else 4318}"
    return urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").netloc.rpartition("@")[2]


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False
