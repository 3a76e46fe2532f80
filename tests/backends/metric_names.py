"""What Prometheus calls the metrics of signals.yaml, whichever way they come to it."""

from __future__ import annotations

from pathlib import Path

import yaml

REGISTRY = Path(__file__).resolve().parents[2] / "src/warpspan/signals/registry.yaml"
OURS = ("pytorch_", "warpspan_", "gen_ai_", "hw_")
UNITS = {"s": "seconds", "By": "bytes", "J": "joules", "W": "watts", "Cel": "celsius"}
TYPES = {"updowncounter": "gauge"}


def types() -> dict[str, str]:
    """The type of each metric by its name, as the compatibility rules of OpenTelemetry make it."""
    registry = yaml.safe_load(REGISTRY.read_text(encoding="utf-8"))
    found = {}
    for metric in (group for group in registry["groups"] if group["type"] == "metric"):
        name, instrument = metric["metric_name"].replace(".", "_"), metric["instrument"]
        unit = UNITS.get(metric["unit"])
        if unit and unit not in name.split("_"):
            name += f"_{unit}"
        if metric["unit"] == "1" and instrument == "gauge":
            name += "_ratio"
        if instrument == "counter":
            name += "_total"
        found[name] = TYPES.get(instrument, instrument)
    return found


def series() -> dict[str, str]:
    """The metric of each series: a histogram has three."""
    return {
        name: metric
        for metric, kind in types().items()
        for name in (
            [f"{metric}_{part}" for part in ("bucket", "count", "sum")]
            if kind == "histogram"
            else [metric]
        )
    }
