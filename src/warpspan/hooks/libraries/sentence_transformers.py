"""sentence-transformers: `encode` and `predict`, one inference each, their batches its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from warpspan.hooks.libraries import wrapping
from warpspan.hooks.libraries.transformers import hub_name
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.module_call import Switch
from warpspan.records.phases import STEP
from warpspan.runtime.library_calls import Loop, open_loop
from warpspan.runtime.loop_notes import LoopNotes
from warpspan.runtime.tracker import Tracker

_ENCODERS = ("SentenceTransformer", "SparseEncoder", "MultiVectorEncoder")


def patch(patches: Patches, switch: Switch, module: Any) -> None:
    """Patch the models that this version has (`sentence_transformers`)."""
    parts = {name: wrapping.part(switch, "preprocess") for name in ("preprocess", "tokenize")}
    for name in _ENCODERS:
        wraps = {"encode": wrapping.loop(switch, _Encode), **parts}
        wrapping.patch(patches, switch, getattr(module, name, None), wraps)
    wraps = {"predict": wrapping.loop(switch, _Predict), **parts}
    wrapping.patch(patches, switch, getattr(module, "CrossEncoder", None), wraps)


class _Call:
    operation = "predict"
    gen_ai: str | None = None

    def __init__(
        self, tracker: Tracker, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        del args, kwargs
        self._model = model
        self._sections: LoopNotes | None = None
        self.loop: Loop | None = open_loop(
            tracker, self.operation, model, self._phase, self._opened
        )

    def _opened(self, sections: LoopNotes) -> None:
        self._sections = sections
        if self.gen_ai is not None:
            sections.operation = self.gen_ai
            first = next(iter(self._model.children()), None)
            sections.model = hub_name(getattr(first, "auto_model", None))

    def _phase(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        del module
        features = args[0] if args and isinstance(args[0], Mapping) else kwargs
        ids = features.get("input_ids")
        if isinstance(ids, torch.Tensor) and self._sections is not None:
            self._sections.add_tokens(ids.numel(), None, None)
        return STEP

    def result(self, value: Any) -> None:
        """The tokens were counted with the steps."""


class _Predict(_Call):
    pass


class _Encode(_Call):
    operation = "encode"
    gen_ai = "embeddings"
