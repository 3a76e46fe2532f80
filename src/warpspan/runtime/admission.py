"""Admission: which outermost calls are inferences, and why each other one is not.

A call is admitted, it is a step of the inference that is open, it passes transparently (what is
inside is asked itself), or it is skipped with a reason that is counted.
"""

from __future__ import annotations

import fnmatch
import sys

import torch
from torch.nn.utils.parametrize import ParametrizationList

from warpspan.config import Settings
from warpspan.probes.model import ModelInfo
from warpspan.records.skips import SkipReason
from warpspan.runtime.scopes import Skipped

# Bound once: each is asked for every outermost call.
tracing_state = torch._C._get_tracing_state
graph_task_id = torch._C._current_graph_task_id
dispatch_mode = torch._C._get_dispatch_mode
is_compiling = torch.compiler.is_compiling
FAKE = torch._C._TorchDispatchModeKey.FAKE


def is_traced() -> bool:
    """Whether what is called now only builds a graph: jit.trace, torch.export, fake tensors."""
    return tracing_state() is not None or is_compiling() or dispatch_mode(FAKE) is not None


def is_constructing() -> bool:
    """Whether the caller is inside the constructor of a module, however deep.

    It walks the whole stack, so it is asked once per model.
    """
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if (
            code.co_name == "__init__"
            and code.co_argcount
            and isinstance(frame.f_locals.get(code.co_varnames[0]), torch.nn.Module)
        ):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


class Admission:
    """Decides by the settings, and counts what is not admitted.

    Args:
        settings: what the user chose.

    Attributes:
        skipped: calls that were skipped, by the value of their `SkipReason`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.skipped: dict[str, int] = dict.fromkeys((reason.value for reason in SkipReason), 0)

    def skip(self, reason: SkipReason) -> Skipped:
        """The scope of a call that is not recorded."""
        self.skipped[reason._value_] += 1
        return Skipped()

    def not_run(self, module: torch.nn.Module) -> Skipped | None:
        """The scope of a call that runs no inference of its own, by what torch does now.

        Args:
            module: what is called while torch traces, recomputes or splits a call.

        Returns:
            None for a replica of DataParallel, which is a part of the call that was split: its
            threads have no context that says so.
        """
        if "_is_replica" in module.__dict__:
            return None
        if dispatch_mode(FAKE) is not None:
            return self.skip(SkipReason.FAKE_TENSORS)
        if tracing_state() is not None or is_compiling():
            return self.skip(SkipReason.TRACING)
        return self.skip(SkipReason.RECOMPUTE)

    def pass_through(self, model_info: ModelInfo, reason: SkipReason) -> None:
        """Let a call be asked about module by module inside. One that holds none is counted."""
        if model_info.is_leaf:
            self.skipped[reason._value_] += 1

    def of_model(self, model_info: ModelInfo) -> SkipReason | None:
        """Why calls of a model are never recorded; None where they are. Asked once per model."""
        kind = model_info.device.type
        if kind == "meta" or (kind == "cuda" and not torch.cuda.is_initialized()):
            return SkipReason.FAKE_TENSORS  # shapes only
        if model_info.exports:
            return SkipReason.TRACING
        if isinstance(model_info.module(), ParametrizationList):
            return SkipReason.PARAMETRIZATION
        if is_constructing():
            return SkipReason.CONSTRUCTION
        if any(
            fnmatch.fnmatchcase(model_info.name, pattern)
            for pattern in self._settings.excluded_models
        ):
            return SkipReason.EXCLUDED
        if not model_info.has_state and not self._settings.parameterless:
            return SkipReason.PARAMETERLESS
        return None
