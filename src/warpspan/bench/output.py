"""What a benchmark leaves behind: its environment, and JSON, CSV, HTML and image files."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import triton

from warpspan.bench import plots
from warpspan.bench.correctness import Check
from warpspan.bench.rows import BenchRow, verdict


def environment(seed: int, *, interpret: bool) -> dict[str, Any]:
    """What a figure depends on; absent values are None."""
    gpu = None if interpret else torch.cuda.get_device_properties(torch.cuda.current_device())
    identity = getattr(gpu, "uuid", None)
    return {
        "gpu": getattr(gpu, "name", None),
        "gpu_id": f"GPU-{str(identity).removeprefix('GPU-')}" if identity else None,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "python": platform.python_version(),
        "interpreted": interpret,
        "seed": seed,
    }


def save_json(
    path: Path, checks: Sequence[Check], rows: Sequence[BenchRow], facts: dict[str, Any]
) -> None:
    """All values, units in their names; what was not measured is null."""
    by_op = {op: [row for row in rows if row.op == op] for op in dict.fromkeys(r.op for r in rows)}
    value = {
        "environment": facts,
        "checks": [check._asdict() for check in checks],
        "rows": [row.to_json() for row in rows],
        "verdicts": {op: verdict(of_op) for op, of_op in by_op.items()},
    }
    path.write_text(json.dumps(value, indent=1) + "\n")


def save_csv(path: Path, rows: Sequence[BenchRow]) -> None:
    """The rows; what was not measured is empty."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(BenchRow("", "", "", "", "", "").to_json()))
        writer.writeheader()
        writer.writerows(row.to_json() for row in rows)


def save_html(
    path: Path, checks: Sequence[Check], rows: Sequence[BenchRow], facts: dict[str, Any]
) -> None:
    """Tables and plots as one page."""
    path.write_text(plots.page(checks, rows, facts))
