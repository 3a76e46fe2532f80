"""torch's own profiler (Kineto) as the source of kernels.

On a GPU it records the device's activities alone, so that no operator pays. CUPTI sees the whole
process, whichever thread starts it. Operators are recorded on a CPU, or where they were asked
for: by `profile_all_threads`, since a profiler sees those of its own thread else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.autograd import profiler
from torch.profiler import ProfilerActivity

from warpspan.config import set_default
from warpspan.deep.other_profilers import UserProfilers, tool_in

#: Why operators can't be recorded on a CPU here.
NO_OPERATORS = (
    f"torch {torch.__version__} can't record the operators of other threads, and this process has "
    "no GPU in use: use a newer torch, or profile on a GPU"
)


class KinetoSource:
    """Starts and stops torch's profiler. See `KernelSource`.

    Args:
        users: the program's own profilers.
        environ: the environment of the process.
        operators: whether operators are recorded also where there is a GPU, with shapes.
    """

    def __init__(
        self, users: UserProfilers, environ: Mapping[str, str], *, operators: bool
    ) -> None:
        self._users, self._environ, self._operators = users, environ, operators
        self._profile: Any = None

    def obstacle(self) -> str | None:
        """See `KernelSource.obstacle`."""
        if (reason := tool_in(self._environ)) is not None:
            return reason
        if self._users.active:
            return "the program profiles itself with torch.profiler: captures wait until it ends"
        if not self._on_device() and not sees_all_threads():
            return NO_OPERATORS
        return None

    def start(self) -> None:
        """See `KernelSource.start`."""
        self._users.is_ours()
        on_device = self._on_device()
        if on_device:
            _spare_graphs()
        operators = (self._operators or not on_device) and sees_all_threads()
        options: dict[str, Any] = {"profile_all_threads": True} if operators else {}
        config = torch._C._profiler._ExperimentalConfig(**options)
        made: Any = profiler.profile(
            use_cpu=operators,
            use_device="cuda" if on_device else None,
            use_kineto=True,
            record_shapes=operators and self._operators,
            experimental_config=config,
        )
        made.__enter__()
        self._profile = made

    def stop(self, path: Path | None) -> None:
        """See `KernelSource.stop`."""
        made, self._profile = self._profile, None
        # Else it synchronizes the device, which waits for the work of others, and would break a
        # graph capture of theirs.
        made.use_device = None
        made.__exit__(None, None, None)
        if path is not None:
            made.kineto_results.save(str(path))

    def _on_device(self) -> bool:
        supported = ProfilerActivity.CUDA in torch._C._autograd._supported_activities()
        return supported and torch.cuda.is_initialized()


def sees_all_threads() -> bool:
    """Whether this torch records operators of other threads than the one that starts it."""
    return "profile_all_threads" in (torch._C._profiler._ExperimentalConfig.__init__.__doc__ or "")


def _spare_graphs() -> None:
    """Keep CUPTI loaded on CUDA before 12.6, where tearing it down breaks CUDA graphs.

    As torch.profiler does itself, though only for the graphs of Inductor.
    """
    version = torch.version.cuda
    if version is not None and tuple(map(int, version.split(".")[:2])) < (12, 6):
        set_default("DISABLE_CUPTI_LAZY_REINIT", "1")
        set_default("TEARDOWN_CUPTI", "0")
