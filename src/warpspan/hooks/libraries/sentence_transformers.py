"""sentence-transformers: `encode` and `predict`, one inference each, their batches its steps."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch

from warpspan.hooks.contract import STEP, HookApi, LibraryCall, OpenCall
from warpspan.hooks.libraries.transformers import hub_name

_ENCODERS = ("SentenceTransformer", "SparseEncoder", "MultiVectorEncoder")


def hook(module: ModuleType, api: HookApi) -> None:
    """Wrap the models that this version has (`sentence_transformers`)."""
    for name in (*_ENCODERS, "CrossEncoder"):
        owner = getattr(module, name, None)
        if name == "CrossEncoder":
            api.wrap_call(owner, "predict", Predict)
        else:
            api.wrap_call(owner, "encode", Encode)
        api.wrap_host_part(owner, "preprocess", "preprocess")
        api.wrap_host_part(owner, "tokenize", "preprocess")


class Predict(OpenCall):
    """A call of `predict`."""

    operation = "predict"

    def __init__(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del args, kwargs
        self.model: torch.nn.Module = model
        self._call: LibraryCall | None = None

    def opened(self, call: LibraryCall) -> None:
        """Its steps count the tokens."""
        self._call = call

    def phase(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """A step; counts the tokens of its batch as they were padded."""
        del module
        features = args[0] if args and isinstance(args[0], Mapping) else kwargs
        ids = features.get("input_ids")
        if isinstance(ids, torch.Tensor) and self._call is not None:
            self._call.notes.add_tokens(ids.numel(), None, None)
        return STEP


class Encode(Predict):
    """A call of `encode`."""

    operation = "encode"

    def opened(self, call: LibraryCall) -> None:
        """It makes embeddings, as the GenAI conventions call it."""
        super().opened(call)
        call.notes.operation = "embeddings"
        first = next(iter(self.model.children()), None)
        call.notes.model = hub_name(getattr(first, "auto_model", None))
