"""Why a module call did not become an inference: a closed set, each member with its words."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class SkipReason(Enum):
    """A reason for which an outermost module call is not recorded.

    The value is the label of `warpspan.skipped`, `text` is for people.
    """

    TRAINING = "training"
    PARAMETERLESS = "parameterless"
    EXCLUDED = "excluded"
    FAKE_TENSORS = "fake_tensors"
    TRACING = "tracing"
    CONSTRUCTION = "construction"
    PARAMETRIZATION = "parametrization"
    RECOMPUTE = "recompute"
    GRAPH_CAPTURE = "graph_capture"
    SUPPRESSED = "suppressed"
    FAULT = "fault"

    @property
    def text(self) -> str:
        """What `warpspan run` and `warpspan doctor` say."""
        return _TEXTS[self.value]


_TEXTS = {
    "training": "training mode with gradients",
    "parameterless": "modules without parameters",
    "excluded": "excluded models",
    "fake_tensors": "fake tensors",
    "tracing": "tracing or export",
    "construction": "dry runs while a module is constructed",
    "parametrization": "parametrized weights",
    "recompute": "recomputed in a backward pass",
    "graph_capture": "CUDA graph capture",
    "suppressed": "instrumentation suppressed",
    "fault": "faults of warpspan",
}


def describe(skipped: Mapping[str, int]) -> str:
    """One sentence for people, such as "41 calls were skipped: training mode with gradients 40, …".

    Args:
        skipped: calls by label; labels of other versions of warpspan are shown as they are.

    Returns:
        An empty string where none was skipped.
    """
    counts = sorted(
        ((count, label) for label, count in skipped.items() if count),
        key=lambda item: (-item[0], item[1]),
    )
    total = sum(count for count, _ in counts)
    if not total:
        return ""
    parts = ", ".join(f"{_TEXTS.get(label, label)} {count}" for count, label in counts)
    calls, were = ("call", "was") if total == 1 else ("calls", "were")
    return f"{total} {calls} {were} skipped: {parts}"
