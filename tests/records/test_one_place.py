"""A new attribute is a registry entry, a field and a probe: nothing else knows of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("yaml")

# Runs on a copy of the sources in which the attribute of CONTRIBUTING's example was added.
PROGRAM = """
import io
import math
import sys
from pathlib import Path

import torch
from opentelemetry.exporter.otlp.json.file import FileSpanExporter

import warpspan
from warpspan.records import Inference, Memory, Model, codec
from warpspan.sources.otlp_json import OtlpJsonReader
from warpspan.testing import InMemoryTelemetry

assert Path(sys.argv[1]) in Path(warpspan.__file__).parents

NAME = "pytorch.model.buffer.size"
attributes = {"pytorch.operation.name": "forward", "pytorch.device.type": "cpu"}
model = codec.decode(attributes | {NAME: 7}, {"start_ns": 0, "duration_s": 1.0}).model
assert model == Model(buffer_bytes=7), model
assert codec.is_sound({NAME: 0})
for broken in (-1, 0.5, math.nan, "7", True):
    assert not codec.is_sound({NAME: broken}), broken

# Three buffers: two of four floats, and a count of eight bytes.
network = torch.nn.BatchNorm1d(4).eval()
with InMemoryTelemetry() as telemetry:
    network(torch.zeros(2, 4))
    (span,) = telemetry.spans()
    (record,) = telemetry.records()
assert span.attributes[NAME] == 40, span.attributes
assert record.model.buffer_bytes == 40, record

file = io.StringIO()
FileSpanExporter(stream=file).export([span])
(read,) = OtlpJsonReader(io.BytesIO(file.getvalue().encode()))
assert read.model == record.model, read
file = file.getvalue().replace('"intValue":"40"', '"intValue":"-40"')
reader = OtlpJsonReader(io.BytesIO(file.encode()))
assert list(reader) == [], "a negative size was read"
assert reader.broken_spans == 1
"""


def example() -> str:
    """The diff of an attribute that CONTRIBUTING shows."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    diffs = re.findall(r"^```diff\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (diff,) = [diff for diff in diffs if "src/warpspan/records/" in diff]
    return diff


def test_a_new_attribute_is_three_places(tmp_path):
    """The example of CONTRIBUTING, applied as it stands there: the rest follows from it."""
    for folder in ("src", "scripts", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pyc*"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src"), "GIT_DIR": os.devnull}

    def run(*command: str, given: str | None = None) -> None:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, input=given, capture_output=True, text=True
        )
        assert (0, "") == (done.returncode, done.stderr)

    run("git", "apply", "-", given=example())
    changed = re.findall(r"^\+\+\+ b/(\S+)$", example(), re.MULTILINE)
    assert [
        "src/warpspan/signals/registry.yaml",
        "src/warpspan/records/model.py",
        "src/warpspan/probes/model.py",
    ] == changed
    run(sys.executable, "scripts/signals.py")
    run(sys.executable, "-c", PROGRAM, str(tmp_path))
    page = (tmp_path / "docs/signals.md").read_text(encoding="utf-8")
    row = (
        "| `pytorch.model.buffer.size` | int | By | Bytes of all buffers. |  "
        "| `model.buffer_bytes` |"
    )
    assert row in page.splitlines()
