"""Something to do once the program uses CUDA: until then no tensor is on a device."""

from __future__ import annotations

from collections.abc import Callable

import torch

from warpspan import guard


class WhenInitialized:
    """Does something when CUDA is initialised, at once where it is already.

    A program that never uses CUDA pays nothing for what is done then.

    Args:
        action: called at most once.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action
        torch.cuda._lazy_call(self._run)

    def cancel(self) -> None:
        """Don't do it any more."""
        self._action = None
        queued = torch.cuda._queued_calls
        queued[:] = [entry for entry in queued if entry[0] != self._run]

    def _run(self) -> None:
        action, self._action = self._action, None
        try:
            if action is not None:
                action()
        except Exception as error:  # what is raised here would be CUDA's failure to start
            guard.caught("transfer", error)
