"""A record in the making, and the contract of those who contribute to it."""

from __future__ import annotations

from warpspan.records import (
    Cache,
    Device,
    Inference,
    Input,
    Loop,
    Memory,
    Model,
    Profile,
    Steps,
    Syncs,
    Timing,
    Transfers,
    Usage,
)
from warpspan.runtime.window import Window


class Draft:
    """What is known of an inference so far; contributors fill in the rest, in their order.

    The fields are those of `Inference`.
    """

    # On the class: an inference pays for what is set.
    cache: Cache | None = None
    loop: Loop | None = None
    memory: Memory | None = None
    parent_span_id = ""
    profile: Profile | None = None
    span_id = ""
    steps: Steps | None = None
    syncs: Syncs | None = None
    trace_id = ""
    transfers: Transfers | None = None
    usage: Usage | None = None

    def __init__(
        self,
        operation: str,
        start_ns: int,
        duration_s: float,
        device: Device,
        model: Model,
        input_: Input,
        timing: Timing,
        error_type: str | None,
    ) -> None:
        self.operation = operation
        self.start_ns = start_ns
        self.duration_s = duration_s
        self.device = device
        self.model = model
        self.input = input_
        self.timing = timing
        self.error_type = error_type

    def record(self) -> Inference:
        """The finished inference."""
        return Inference(
            self.operation,
            self.start_ns,
            self.duration_s,
            self.device,
            self.model,
            self.input,
            self.timing,
            self.memory,
            self.steps,
            self.usage,
            self.cache,
            self.loop,
            self.syncs,
            self.transfers,
            self.profile,
            self.error_type,
            self.trace_id,
            self.span_id,
            self.parent_span_id,
        )


class Contributor:
    """Adds one group of figures to a record. Runs on the finisher's thread, and never waits."""

    #: Origin of its faults, in `warpspan.faults`.
    name: str

    def settled(self, window: Window) -> bool:  # noqa: ARG002 - most know all at once
        """Whether what it has to add is known by now, or never will be.

        It is asked again later as long as it is not. Under pressure and at the end of the process
        it is not waited for.
        """
        return True

    def contribute(self, window: Window, draft: Draft) -> None:
        """Add what is known. What it raises is counted, and costs this contribution alone."""
        raise NotImplementedError
