"""The checks of names in the environment, and of web frameworks without their instrumentation."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import NamedTuple

from warpspan.cli.finding import Finding


class _Named(NamedTuple):
    """A variable whose value names what some package announces.

    Args:
        variable: the variable.
        what: what it names.
        group: of entry points.
        others: names that need no entry point.
    """

    variable: str
    what: str
    group: str
    others: tuple[str, ...] = ("none",)


_NAMED = (
    _Named("OTEL_PYTHON_DISTRO", "distro", "opentelemetry_distro", ()),
    _Named("OTEL_PYTHON_CONFIGURATOR", "configurator", "opentelemetry_configurator", ()),
    _Named("OTEL_TRACES_EXPORTER", "exporter", "opentelemetry_traces_exporter"),
    _Named("OTEL_METRICS_EXPORTER", "exporter", "opentelemetry_metrics_exporter"),
    _Named("OTEL_LOGS_EXPORTER", "exporter", "opentelemetry_logs_exporter"),
    _Named("OTEL_PROPAGATORS", "propagator", "opentelemetry_propagator"),
    _Named("OTEL_TRACES_SAMPLER", "sampler", "opentelemetry_traces_sampler", ()),
    _Named("OTEL_PYTHON_ID_GENERATOR", "id generator", "opentelemetry_id_generator", ()),
    _Named(
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS",
        "resource detector",
        "opentelemetry_resource_detector",
        ("*",),
    ),
)
# Packages whose request or task is what an inference belongs to; OpenTelemetry's list of
# instrumentations has many more, of what is called rather than what calls.
_SERVERS = {
    "aiohttp": "opentelemetry-instrumentation-aiohttp-server",
    "celery": "opentelemetry-instrumentation-celery",
    "django": "opentelemetry-instrumentation-django",
    "falcon": "opentelemetry-instrumentation-falcon",
    "fastapi": "opentelemetry-instrumentation-fastapi",
    "flask": "opentelemetry-instrumentation-flask",
    "pyramid": "opentelemetry-instrumentation-pyramid",
    "starlette": "opentelemetry-instrumentation-starlette",
    "tornado": "opentelemetry-instrumentation-tornado",
}
# Each comes along with the other one, whose instrumentation is enough.
_BELOW = {"starlette": "fastapi"}


def names(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Names of distro, exporters, propagators and samplers that nothing installed here has."""
    for variable, what, group, others in _NAMED:
        known = {point.name for point in metadata.entry_points(group=group)} | set(others)
        for name in filter(None, map(str.strip, environ.get(variable, "").split(","))):
            if name in known:
                continue
            near = difflib.get_close_matches(name, sorted(known), 1)
            installed = ", ".join(sorted(known)) or "none"
            yield Finding(
                "error",
                variable,
                f"no package here has a {what} {name!r}; there are: {installed}",
                f"did you mean {near[0]}?" if near else f"install the package that has {name!r}",
            )


def frameworks(environ: Mapping[str, str]) -> Iterator[Finding]:  # noqa: ARG001
    """Web frameworks and task queues whose requests will have no span."""
    installed = {
        re.sub(r"[-_.]+", "-", name).lower()
        for name in (one.metadata["Name"] for one in metadata.distributions())
        if name
    }
    for package, instrumentation in _SERVERS.items():
        if package not in installed or instrumentation in installed:
            continue
        if _BELOW.get(package) in installed:
            continue
        yield Finding(
            "note",
            package,
            "is installed without its OpenTelemetry instrumentation: inferences in its requests "
            "have no parent span",
            f"pip install {instrumentation}",
        )
