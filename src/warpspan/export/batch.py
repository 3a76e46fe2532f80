"""A batch on its way to the helper."""

from __future__ import annotations

from warpspan.export import wire


class Batch:
    """What one call of an exporter hands over."""

    __slots__ = ("begun", "complete", "frames", "items", "kind", "number", "size", "tries")

    def __init__(self, number: int, kind: int) -> None:
        self.number = number
        self.kind = kind
        self.frames: list[bytes] = []
        self.items = 0
        self.size = 0
        self.complete = False
        self.begun = False
        self.tries = 0

    @property
    def payloads(self) -> list[bytes]:
        """Its slices as they were packed."""
        return [frame[wire.HEADER.size :] for frame in self.frames]
