"""`warpspan doctor` on the latest file of `warpspan run` in its folder."""

import json
import os

import pytest

from warpspan.cli import doctor_runs
from warpspan.cli.finding import Finding


def metrics(**skipped):
    points = [
        {
            "asInt": str(count),
            "startTimeUnixNano": "1",
            "attributes": [{"key": "warpspan.skip.reason", "value": {"stringValue": reason}}],
        }
        for reason, count in skipped.items()
    ]
    total = {"aggregationTemporality": 2, "dataPoints": points}
    scope = {"metrics": [{"name": "warpspan.skipped", "sum": total}]}
    return json.dumps({"resourceMetrics": [{"resource": {}, "scopeMetrics": [scope]}]}) + "\n"


def span():
    values = {"pytorch.operation.name": "forward", "pytorch.device.type": "cpu"}
    attributes = [{"key": key, "value": {"stringValue": text}} for key, text in values.items()]
    found = {"startTimeUnixNano": "1", "endTimeUnixNano": "2", "attributes": attributes}
    block = {"resource": {}, "scopeSpans": [{"spans": [found]}]}
    return json.dumps({"resourceSpans": [block]}) + "\n"


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (span(), ("ok", "warpspan-1.jsonl has 1 inference")),
        (
            span() + metrics(training=40, fake_tensors=1),
            (
                "ok",
                "warpspan-1.jsonl has 1 inference; 41 calls were skipped: training mode with "
                "gradients 40, fake tensors 1",
            ),
        ),
        (
            metrics(excluded=2),
            (
                "warning",
                "warpspan-1.jsonl has no inference: 2 calls were skipped: excluded models 2",
            ),
        ),
        ("", ("warning", "warpspan-1.jsonl has no inference: warpspan-1.jsonl is empty")),
    ],
)
def test_the_latest_run(tmp_path, monkeypatch, text, finding):
    """Inferences and skipped calls, or why there is nothing. An older file is not looked at."""
    monkeypatch.chdir(tmp_path)
    old = tmp_path / "warpspan-0.jsonl"
    old.write_text("no JSON")
    os.utime(old, (1, 1))
    (tmp_path / "warpspan-1.jsonl").write_text(text)
    state, said = finding
    assert [Finding(state, "latest run", said)] == list(doctor_runs.latest_run({}))


def test_a_large_file_is_left_to_the_report(tmp_path, monkeypatch):
    """The doctor answers at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor_runs, "_MOST_BYTES", 1)
    (tmp_path / "warpspan-1.jsonl").write_text("{}")
    (finding,) = doctor_runs.latest_run({})
    assert ("note", "warpspan report warpspan-1.jsonl") == (finding.state, finding.fix)


def test_without_a_run_there_is_nothing_to_say(tmp_path, monkeypatch):
    """No file, no line."""
    monkeypatch.chdir(tmp_path)
    assert [] == list(doctor_runs.latest_run({}))
