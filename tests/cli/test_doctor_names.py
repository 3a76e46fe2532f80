"""`warpspan doctor` knows which names there are, and which frameworks have no request spans."""

from __future__ import annotations

from importlib import metadata

import pytest

from warpspan.cli import doctor_names
from warpspan.cli.finding import Finding


@pytest.mark.parametrize(
    ("variable", "written", "meant"),
    [
        ("OTEL_PYTHON_DISTRO", "warpspam", "warpspan"),
        ("OTEL_TRACES_EXPORTER", "console,warpspan_oltp", "warpspan_otlp"),
        ("OTEL_METRICS_EXPORTER", "otlp_proto_htpp", "otlp_proto_http"),
        ("OTEL_PROPAGATORS", "trace_context,baggage", "tracecontext"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always-on", "parentbased_always_on"),
    ],
)
def test_a_name_that_nothing_has(variable, written, meant):
    """What was probably meant."""
    [found] = doctor_names.names({variable: written})
    assert ("error", variable, f"did you mean {meant}?") == (
        found.state,
        found.subject,
        found.fix,
    )


def test_names_that_there_are():
    """Each kind, also those that the SDK has without an entry point."""
    assert [] == list(
        doctor_names.names(
            {
                "OTEL_PYTHON_DISTRO": "warpspan",
                "OTEL_TRACES_EXPORTER": "otlp, console",
                "OTEL_LOGS_EXPORTER": "none",
                "OTEL_PROPAGATORS": "tracecontext,baggage",
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            }
        )
    )


def test_a_name_like_no_other():
    """What there is, and that a package is missing."""
    [found] = doctor_names.names({"OTEL_PROPAGATORS": "xray"})
    assert "no package here has a propagator 'xray'; there are: baggage, none, tracecontext" == (
        found.said
    )
    assert "install the package that has 'xray'" == found.fix


class Distribution:
    def __init__(self, name):
        self.metadata = {"Name": name}


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (["Flask"], ["flask"]),
        (["fastapi", "starlette"], ["fastapi"]),
        (["fastapi", "starlette", "opentelemetry_instrumentation_fastapi"], []),
        (["torch"], []),
    ],
)
def test_frameworks_without_their_instrumentation(monkeypatch, installed, expected):
    """One line each, and none for what comes along with another one."""
    monkeypatch.setattr(metadata, "distributions", lambda: map(Distribution, installed))
    found = list(doctor_names.frameworks({}))
    assert [
        Finding(
            "note",
            name,
            "is installed without its OpenTelemetry instrumentation: inferences in its requests "
            "have no parent span",
            f"pip install opentelemetry-instrumentation-{name}",
        )
        for name in expected
    ] == found
