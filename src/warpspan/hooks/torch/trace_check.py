"""torch.jit.trace's own check, which runs the model and its trace beside each other: no inference."""

from __future__ import annotations

import functools
from typing import Any

import torch

from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.module_call import Switch
from warpspan.records.skips import SkipReason


def patch(patches: Patches, switch: Switch) -> None:
    """Have nothing inside the check be recorded."""
    tracing: Any = torch.jit._trace
    original = getattr(tracing, "_check_trace", None)
    if original is None:
        return

    @functools.wraps(original)
    def _check_trace(*args: Any, **kwargs: Any) -> Any:
        tracker = switch.tracker
        if tracker is None:
            return original(*args, **kwargs)
        scope = tracker.admission.skip(SkipReason.TRACING)
        try:
            return original(*args, **kwargs)
        finally:
            scope.close()

    patches.apply(tracing, "_check_trace", _check_trace)
