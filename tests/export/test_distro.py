"""The distro: only where it is asked for."""

import os
from importlib.metadata import EntryPoint, EntryPoints

import pytest

pytest.importorskip("opentelemetry.distro")

from opentelemetry.distro import OpenTelemetryDistro
from opentelemetry.instrumentation.auto_instrumentation import _load
from opentelemetry.instrumentation.distro import DefaultDistro

from warpspan.export.distro import WarpspanDistro

OURS = EntryPoint("warpspan", "warpspan.export.distro:distro", "opentelemetry_distro")
THEIRS = EntryPoint("distro", "opentelemetry.distro:OpenTelemetryDistro", "opentelemetry_distro")
EXPORTERS = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")


@pytest.fixture(autouse=True)
def environ(monkeypatch):
    for name in (*EXPORTERS, "OTEL_PYTHON_DISTRO", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("chosen", [None, "distro", "warpspan"])
@pytest.mark.parametrize("installed", [[OURS], [OURS, THEIRS], [THEIRS, OURS]])
def test_installing_it_changes_nothing(monkeypatch, chosen, installed):
    """Whatever else is installed, and in which order: without its name all is as without it."""
    if chosen is not None:
        monkeypatch.setenv("OTEL_PYTHON_DISTRO", chosen)
    expected = OpenTelemetryDistro if THEIRS in installed else DefaultDistro
    monkeypatch.setattr(_load, "entry_points", lambda group: EntryPoints(installed))
    assert (WarpspanDistro if chosen == "warpspan" else expected) is type(_load._load_distro())


def test_where_no_exporter_was_chosen():
    """All three signals go by the helper."""
    WarpspanDistro().configure()
    assert ["warpspan_otlp"] * 3 == [os.environ[name] for name in EXPORTERS]


def test_what_was_chosen_is_kept(monkeypatch):
    """Also none."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    WarpspanDistro().configure()
    assert ["otlp", "warpspan_otlp", "none"] == [os.environ[name] for name in EXPORTERS]
