"""Replays of CUDA graphs, which compute what was captured before."""

from __future__ import annotations

from typing import Any

from warpspan import guard
from warpspan.records.skips import SkipReason
from warpspan.runtime.admission import graph_task_id
from warpspan.runtime.scopes import NO_SCOPE, current
from warpspan.runtime.tracker import Scope, Tracker, start_of


def open_replay(tracker: Tracker, graph: Any) -> Scope | None:
    """A scope for a graph's replay that nothing open covers; None where it is no inference.

    Backward passes that `make_graphed_callables` captured replay inside autograd.
    """
    try:
        if graph_task_id() != -1:
            return None
        known = tracker.graphs.of(graph)
        if known.excluded or (known.training and not tracker.settings.training):
            reason = SkipReason.EXCLUDED if known.excluded else SkipReason.TRAINING
            return tracker.admission.skip(reason)
        model = known.model
        if known.start is None:
            devices = tracker.runtime_devices
            device = devices.at(known.device) if known.device else devices.current()
            name = None if model is None else model.name
            known.start = device, *start_of("graph_replay", name, device)
        runtime_device, name, attributes = known.start
        if current.get() is not NO_SCOPE:
            outer = tracker.innermost()
            if outer.takes_steps:
                timeline = runtime_device.timeline
                capturing = timeline is not None and timeline.capturing
                return None if capturing else outer.step(model, known.seen)
        return tracker.open(runtime_device, name, attributes, "graph_replay", model, known.seen)
    except Exception as error:
        guard.caught("begin", error)
        return None
