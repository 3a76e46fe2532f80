"""registry.yaml is the one source of names."""

import subprocess
import sys
from pathlib import Path

import pytest

from warpspan.records import SYNC_KINDS, Syncs, Transfers, generation
from warpspan.records import inference as records
from warpspan.signals import names

ROOT = Path(__file__).resolve().parents[2]
yaml = pytest.importorskip("yaml")


def groups():
    return yaml.safe_load((ROOT / "src/warpspan/signals/registry.yaml").read_text())["groups"]


def attributes():
    return [
        attribute
        for group in groups()
        if group["type"] == "attribute_group"
        for attribute in group["attributes"]
    ]


def test_the_constants_and_the_docs_are_what_the_registry_says():
    """signals.py and docs/signals.md can't drift from signals.yaml."""
    check = subprocess.run(
        [sys.executable, ROOT / "scripts/signals.py", "--check"], capture_output=True, text=True
    )
    assert ("", 0) == (check.stderr, check.returncode)


def test_every_span_attribute_of_the_registry_is_in_a_record():
    """A record holds all that a span can carry, so a report can read all of it back."""
    in_records = {
        name
        for ids in (
            records._DEVICE,
            records._MODEL,
            records._INPUT,
            records._TIMING,
            records._MEMORY,
            records._STEPS,
            records._USAGE,
            records._CACHE,
            generation._PHASES,
            generation._GENERATION,
            generation._DENOISING,
            generation._GEN_AI,
            generation._PREFILL_CYCLES,
            generation._DECODE_CYCLES,
            (  # told on the span only
                names.PYTORCH_STEP_PHASE,
                names.PYTORCH_STEP_PHASES,
                names.PYTORCH_STEP_STARTS,
                names.PYTORCH_STEP_DURATIONS,
            ),
            dict(Syncs().attributes()),
            dict(Transfers().attributes()),
            (f"pytorch.sync.{kind}.{name}" for kind in SYNC_KINDS for name in ("count", "time")),
            (names.PYTORCH_OPERATION_NAME, names.ERROR_TYPE),
        )
        for name in ids
    }
    metrics_only = {
        names.HW_NAME,
        names.HW_TYPE,
        names.HW_VENDOR,
        names.PYTORCH_GPU_ACTIVITY,
        names.PYTORCH_MEMORY_STATE,
        names.PYTORCH_TOKEN_TYPE,
        names.PYTORCH_SYNC_KIND,
        names.PYTORCH_TRANSFER_DIRECTION,
        names.PYTORCH_TRANSFER_MEMORY,
        names.WARPSPAN_DROP_REASON,
        names.WARPSPAN_FAULT_ORIGIN,
        names.WARPSPAN_SIGNAL,
    }
    of_inferences = {
        attribute["id"]
        for attribute in attributes()
        # Those of a benchmark's row, and those of the resource.
        if not attribute["id"].startswith(("pytorch.bench.", "host.gpu."))
    }
    assert of_inferences == in_records | metrics_only


def test_no_name_is_also_a_namespace():
    """OpenTelemetry: `a.b` must not be an attribute where `a.b.c` is one; metrics likewise."""
    for ids in (
        [attribute["id"] for attribute in attributes()],
        [group["metric_name"] for group in groups() if group["type"] == "metric"],
    ):
        assert [] == [
            (name, other) for name in ids for other in ids if other.startswith(name + ".")
        ]


def test_counters_do_not_end_in_total_and_units_are_given():
    """The Prometheus exporter adds `_total` itself; every metric says its unit."""
    for group in groups():
        if group["type"] == "metric":
            assert not group["metric_name"].endswith("total")
            assert group["unit"]
