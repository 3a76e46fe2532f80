"""Temporality and aggregation are the official exporter's, variable by variable."""

import os

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

from warpspan.export import preferences


@pytest.mark.parametrize("value", [None, "cumulative", " Delta ", "LOWMEMORY", "sideways"])
def test_temporality(monkeypatch, value):
    """Every preference, in any case, and one that there isn't."""
    if value is not None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", value)
    official = OTLPMetricExporter()
    official.shutdown()
    assert official._preferred_temporality == preferences.temporality(os.environ)


@pytest.mark.parametrize(
    "value", [None, "explicit_bucket_histogram", "base2_exponential_bucket_histogram", "flat"]
)
def test_aggregation(monkeypatch, value):
    """Every histogram aggregation, and one that there isn't."""
    if value is not None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", value)
    official = OTLPMetricExporter()
    official.shutdown()
    expected, actual = official._preferred_aggregation, preferences.aggregation(os.environ)
    assert {kind: type(one) for kind, one in expected.items()} == {
        kind: type(one) for kind, one in actual.items()
    }
