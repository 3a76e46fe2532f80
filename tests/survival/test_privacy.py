"""No value, prompt, label, name or message of the host ever enters telemetry."""

from __future__ import annotations

import json
import math

import pytest
import torch
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from torch import nn

import warpspan
from warpspan.signals import names as registered

metrics_encoder = pytest.importorskip("opentelemetry.exporter.otlp.json.common.metrics_encoder")
trace_encoder = pytest.importorskip("opentelemetry.exporter.otlp.json.common.trace_encoder")

SECRET = "canary-in-the-mine"
NUMBER = 918273.645
TOKEN = 918273


class Reads(nn.Module):
    """A model that gets secrets in every way, and tells them when it fails."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("secret_" + SECRET.replace("-", "_"), torch.full((2,), NUMBER))
        self.config = {"label": SECRET}

    def forward(self, *args, fail=None, **kwargs):
        if fail is not None:
            raise fail
        return torch.full((2, 3), NUMBER)


class SecretError(Exception):
    """An exception with a secret in everything that it has, its notes included."""

    def __init__(self):
        super().__init__(SECRET, NUMBER)
        self.__dict__["__notes__"] = [SECRET]
        self.prompt = SECRET

    def __str__(self):
        return f"prompt: {SECRET} {NUMBER}"

    __repr__ = __str__


def secrets():
    """Calls of every form: positional, by name, in mappings, as text and as tensors."""
    tokens = torch.full((2, 3), TOKEN)
    values = torch.full((2, 3), NUMBER)
    yield (tokens,), {}
    yield (values, SECRET), {"prompt": SECRET, SECRET: values}
    yield (SECRET, [SECRET]), {"input_ids": tokens, "labels": tokens}
    yield ({"text": SECRET, SECRET: tokens},), {}
    yield (), {SECRET: tokens}
    yield (), {"inputs_embeds": values.expand(2, 2, 3), "temperature": NUMBER}
    yield (tokens,), {"fail": SecretError()}
    yield (), {"fail": RuntimeError(f"you tried to allocate {SECRET} {NUMBER} bytes")}


@pytest.fixture
def exported(telemetry):
    """Everything that was exported so far, as OTLP JSON."""

    def encode():
        # The reader's flush collects, so the spans come first and the metrics are read once.
        spans = telemetry.spans()
        data = next(
            reader
            for reader in vars(telemetry).values()
            if isinstance(reader, InMemoryMetricReader)
        ).get_metrics_data()
        return json.dumps(
            [
                trace_encoder.encode_spans(spans).to_dict(),
                metrics_encoder.encode_metrics(data).to_dict(),
            ]
        )

    return encode


def test_nothing_of_the_host_is_exported(telemetry, exported, caplog):
    """Canary values in tensors, arguments, names, messages and state are found nowhere."""
    model = Reads().eval()
    for args, kwargs in secrets():
        try:
            model(*args, **kwargs)
            with warpspan.inference("generate"):
                model(*args, **kwargs)
        except (SecretError, RuntimeError):
            pass
    assert 8 + 6 == len(telemetry.spans())
    text = exported()
    assert "forward Reads" in text
    assert "pytorch.inference.duration" in text
    for secret in (SECRET, SECRET.replace("-", "_"), str(NUMBER), str(TOKEN)):
        assert secret not in text, secret
    assert [] == caplog.records


def test_every_attribute_is_one_of_ours(telemetry):
    """Each has a name of the registry and a value of its type; strings come from few sources."""
    model = Reads().eval()
    for args, kwargs in secrets():
        try:
            model(*args, **kwargs)
        except (SecretError, RuntimeError):
            pass
    names = {value for value in vars(registered).values() if isinstance(value, str)}
    strings = set()
    for span in telemetry.spans():
        assert set(span.attributes) <= names
        assert () == tuple(span.events)
        assert span.status.description is None
        strings |= {value for value in span.attributes.values() if isinstance(value, str)}
        assert all(
            math.isfinite(value) for value in span.attributes.values() if isinstance(value, float)
        )
    assert {
        "forward",
        "Reads",
        "cpu",
        "float32",
        "RuntimeError",
        f"{SecretError.__module__}.SecretError",
    } == strings
