"""What records the work of devices while a capture runs."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class KernelSource(Protocol):
    """A profiler of this process. All calls come from the one thread that captures."""

    def obstacle(self) -> str | None:
        """Why it can't record now, in one sentence that says what to do; None where it can."""

    def start(self) -> None:
        """Begin to record. May take seconds, the first time.

        Raises:
            Exception: it could not; then it does not record.
        """

    def stop(self, path: Path | None) -> None:
        """End, and write what was recorded as a trace of PyTorch's profiler (Kineto).

        The inferences in the trace have ended on their devices; nothing is waited for.

        Args:
            path: a file to make; None throws away what was recorded.
        """
