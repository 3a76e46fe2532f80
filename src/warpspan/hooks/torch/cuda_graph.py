"""CUDA graphs: their captures are left alone, and an outermost replay is an inference.

`torch.cuda.graph`, `make_graphed_callables` and the graph trees behind
`torch.compile(mode="reduce-overhead")` all capture and replay by these methods.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from warpspan import guard
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.dynamo import leave_out
from warpspan.hooks.torch.module_call import Switch
from warpspan.probes.capture import gate
from warpspan.runtime.replays import open_replay
from warpspan.runtime.scopes import current

_scope = current.get


def patch(patches: Patches, switch: Switch) -> None:
    """Have captures close the gate to the driver, and replays open an inference.

    Args:
        patches: where the patches are noted.
        switch: says whether replays are recorded, and by whom.
    """
    graph = torch.cuda.CUDAGraph
    begin, replayed = graph.capture_begin, graph.replay

    @functools.wraps(begin)
    def capture_begin(self: Any, *args: Any, **kwargs: Any) -> None:
        gate.opened(self)
        try:
            begin(self, *args, **kwargs)
        except BaseException:
            gate.closed(self)
            raise
        if (tracker := switch.tracker) is not None:
            try:
                tracker.graphs.began(self)
            except Exception as error:
                guard.caught("capture", error)

    @functools.wraps(replayed)
    def replay(self: Any, *args: Any, **kwargs: Any) -> None:
        if _scope().covers or (tracker := switch.tracker) is None:
            return replayed(self, *args, **kwargs)
        scope = open_replay(tracker, self)
        if scope is None:
            return replayed(self, *args, **kwargs)
        try:
            return replayed(self, *args, **kwargs)
        except BaseException as error:
            scope.fail(error)
            raise
        finally:
            scope.close()

    replacements: dict[str, Any] = {"capture_begin": capture_begin, "replay": replay}
    # Newer versions of torch end a capture in two parts, and by the first alone where it failed.
    for name in ("capture_end", "capture_end_pre"):
        if hasattr(graph, name):
            replacements[name] = _ending(getattr(graph, name), switch)
    for name, replacement in replacements.items():
        # As torch's methods, which are left out by their file; else a program that replays in a
        # compiled function would have everything down to the context variable compiled.
        patches.apply(graph, name, leave_out(replacement))


def _ending(original: Any, switch: Switch) -> Any:
    @functools.wraps(original)
    def end(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            original(self, *args, **kwargs)
        finally:
            gate.closed(self)
            if (tracker := switch.tracker) is not None:
                tracker.graphs.ended()

    return end
