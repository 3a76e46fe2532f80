"""Graph captures: nothing may ask the driver anything while one is open."""

from __future__ import annotations

import functools
from typing import Any

import torch

from warpspan.hooks.patches import Patches
from warpspan.probes import clock


def patch(patches: Patches) -> None:
    """Close the gate to the driver from the begin of each capture to its end."""
    graph = torch.cuda.CUDAGraph
    begin, end = graph.capture_begin, graph.capture_end

    @functools.wraps(begin)
    def capture_begin(self: Any, *args: Any, **kwargs: Any) -> None:
        clock.gate.opened()
        try:
            begin(self, *args, **kwargs)
        except BaseException:
            clock.gate.closed()
            raise

    @functools.wraps(end)
    def capture_end(self: Any) -> None:
        try:
            end(self)
        finally:
            clock.gate.closed()

    patches.apply(graph, "capture_begin", capture_begin)
    patches.apply(graph, "capture_end", capture_end)
