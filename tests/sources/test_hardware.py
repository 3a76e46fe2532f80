"""Samples of devices out of the points of `hw.*` metrics."""

from __future__ import annotations

import io
import json

import pytest

from warpspan.records import DeviceSample
from warpspan.report.devices import DeviceLine, summarize_devices
from warpspan.sources.hardware import HardwareSamples
from warpspan.sources.otlp_json import OtlpJsonReader


def point(at_ns, value, **attributes):
    attributes = {"hw.id": "GPU-0", **attributes}
    return {
        "timeUnixNano": str(at_ns),
        "asDouble": value,
        "attributes": [
            {"key": key, "value": {"stringValue": text}} for key, text in attributes.items()
        ],
    }


def metric(name, *points, kind="gauge"):
    return {"name": name, kind: {"dataPoints": list(points), "aggregationTemporality": 2}}


def line(*metrics):
    block = {"resource": {}, "scopeMetrics": [{"scope": {}, "metrics": list(metrics)}]}
    return json.dumps({"resourceMetrics": [block]}).encode() + b"\n"


def test_points_of_one_export_are_one_sample():
    """Each device and each export has one; a counter is read like a gauge."""
    file = line(
        metric("hw.power", point(1, 300.0), point(1, 90.0, **{"hw.id": "GPU-1"})),
        metric("hw.energy", point(1, 1e6), kind="sum"),
        metric("hw.errors", point(1, 2.0, **{"error.type": "corrected"}), kind="sum"),
        metric("hw.errors", point(1, 7.0, **{"error.type": "of another kind"}), kind="sum"),
        metric("hw.fan.speed", point(1, 2000.0)),
    ) + line(metric("hw.temperature", point(2, 71.0)))
    reader = OtlpJsonReader(io.BytesIO(file))
    assert [] == list(reader)
    assert [
        DeviceSample(1, "GPU-0", energy_j=1e6, power_w=300.0, corrected_errors=2.0, unix_ns=1),
        DeviceSample(1, "GPU-1", power_w=90.0, unix_ns=1),
        DeviceSample(2, "GPU-0", temperature_c=71.0, unix_ns=2),
    ] == reader.device_samples()


@pytest.mark.parametrize(
    ("attributes", "value"), [({}, 1.0), ({"hw.id": 7}, 1.0), ({"hw.id": "GPU-0"}, float("nan"))]
)
def test_what_is_of_no_device_is_no_sample(attributes, value):
    """A point without an id, or that is no number, costs the others nothing."""
    samples = HardwareSamples()
    samples.add("hw.power", attributes, 1, value)
    assert [] == samples.samples()


def test_a_device_in_one_line():
    """Mean of the power, highest temperature and memory; what no sample has is absent."""
    samples = [
        DeviceSample(1, "GPU-1", power_w=100.0, memory_used_bytes=5),
        DeviceSample(2, "GPU-1", power_w=300.0, memory_used_bytes=3),
        DeviceSample(1, "GPU-0", temperature_c=70.0),
    ]
    assert [
        DeviceLine("GPU-0", 1, None, 70.0, None),
        DeviceLine("GPU-1", 2, 200.0, None, 5),
    ] == summarize_devices(samples)
