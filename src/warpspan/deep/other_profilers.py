"""Other profilers of this process: two at once break each other, so ours yields.

Kineto, nsys, ncu and rocprof all subscribe to the driver, which allows one of them.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch.autograd.profiler

from warpspan.hooks.patches import Patches

# Set in the programs that these start (and by users, for the injection path).
_VARIABLES = {
    "NSYS_PROFILING_SESSION_ID": "Nsight Systems (nsys)",
    "NV_NSIGHT_INJECTION_TRANSPORT_TYPE": "Nsight Compute (ncu)",
    "NVPROF_ID": "nvprof",
    "CUDA_INJECTION64_PATH": "a library injected into CUDA",
    "KINETO_USE_DAEMON": "a profiling daemon (dynolog)",
    "ROCP_TOOL_LIBRARIES": "rocprofiler",
    "HSA_TOOLS_LIB": "an HSA tool",
}


def tool_in(environ: Mapping[str, str]) -> str | None:
    """Why a tool around this process keeps ours out, None where there is none."""
    for variable, tool in _VARIABLES.items():
        if environ.get(variable):
            return (
                f"{tool} profiles this process ({variable} is set), and two profilers break each "
                "other: captures wait until it runs without"
            )
    return None


class UserProfilers:
    """The program's own use of torch's profiler.

    Args:
        stop_ours: called on the program's thread before it starts one; returns when ours is off.
    """

    def __init__(self, stop_ours: Callable[[], None]) -> None:
        self._stop_ours = stop_ours
        self._prepared: weakref.WeakSet[Any] = weakref.WeakSet()
        self._our_thread: int | None = None

    def patch(self, patches: Patches) -> None:
        """See each profiler that is prepared, which is before it records, and each that ends."""
        kind: Any = torch.autograd.profiler.profile
        prepare, end = kind._prepare_trace, kind.__exit__

        def _prepare_trace(profiler: Any) -> Any:
            if threading.get_ident() != self._our_thread:
                self._prepared.add(profiler)
                self._stop_ours()
            return prepare(profiler)

        def __exit__(profiler: Any, *error: Any) -> Any:  # noqa: N807 - takes the place of one
            try:
                return end(profiler, *error)
            finally:
                self._prepared.discard(profiler)

        patches.apply(kind, "_prepare_trace", _prepare_trace)
        patches.apply(kind, "__exit__", __exit__)

    def is_ours(self) -> None:
        """What this thread starts is no profiler of the program."""
        self._our_thread = threading.get_ident()

    @property
    def active(self) -> bool:
        """Whether one is prepared or records."""
        return bool(self._prepared) or torch.autograd.profiler._is_profiler_enabled
