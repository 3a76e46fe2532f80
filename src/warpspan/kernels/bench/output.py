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

from warpspan.kernels.bench import plots
from warpspan.kernels.bench.correctness import Check
from warpspan.kernels.bench.fused import BenchDevice
from warpspan.kernels.bench.rows import BenchRow, verdict


def environment(seed: int, device: BenchDevice | None) -> dict[str, Any]:
    """What a figure depends on; absent values are None.

    Args:
        seed: of the random inputs.
        device: None where kernels ran in Triton's interpreter.
    """
    return {
        "gpu": device.name if device else None,
        "gpu_id": device.identity if device else None,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "python": platform.python_version(),
        "interpreted": device is None,
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
