"""A receiver of OTLP, to which the exporters' own variables point."""

import pytest


@pytest.fixture
def receiver(monkeypatch):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from tests.support.otlp import http_receiver

    with http_receiver() as made:
        for name, value in made.environ.items():
            monkeypatch.setenv(name, value)
        yield made
