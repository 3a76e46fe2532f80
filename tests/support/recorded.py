"""Traces of real GPUs, recorded by others; they are not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from warpspan.records.kernels import Trace
from warpspan.sources.traces import head_of, read_trace

ROOT = Path(__file__).resolve().parents[2]
# Busy, copies alone and total of TRUTH.md, in milliseconds.
BUSY_COPIES_TOTAL_MS = {
    "h100-bert-small.json.gz": (0.3094377, 0.0022399, 3.9078249),
    "mi300-vit-image-classification.json.gz": (1.7162988, 0, 6.8688491),
    "mi300-timesformer.json.gz": (119.85288, 1.0939912, 121.26720),
    "h100-qwen1.5-0.5b.json.gz": (45.64731, 0.0023679, 49.65283),
    "mi300-vllm-prefill-decode.json.gz": (156.08579, 0.0773974, 156.46641),
    "mi300-sglang-qwen3-8b-prefill-decode.json.gz": (492.80686, 0.0379697, 987.28888),
    "mi300-torch-compile.json.gz": (12.549020, 0, 12.549032),
    "a100-alexnet.json.gz": (66.141, 55.503, 12920.244),
    "v100-ddp-training.json.gz": (472.4625, 3.70125, 480.02925),
}


def folder() -> Path:
    """Where they are; skips the test where they are not."""
    places = [ROOT.parent / "shared" / "traces", ROOT.parent.parent / "shared" / "traces"]
    if given := os.environ.get("WARPSPAN_TRACES"):
        places.insert(0, Path(given))
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        pytest.skip("no recorded traces in ../shared/traces (WARPSPAN_TRACES names another place)")
    return found


def read(path: Path) -> Trace:
    """What is read of one of them."""
    with path.open("rb") as stream:
        return read_trace(stream, path.name, head_of(path)).trace
