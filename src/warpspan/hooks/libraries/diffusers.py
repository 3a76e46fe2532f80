"""diffusers: a call of any pipeline is one inference, its module calls told apart by component."""

from __future__ import annotations

import weakref
from types import ModuleType
from typing import Any

import torch

from warpspan.hooks.contract import (
    DENOISE,
    STEP,
    TEXT_ENCODER,
    VAE,
    HookApi,
    LibraryCall,
    OpenCall,
)
from warpspan.probes.model import unwrap

# How the attributes begin under which pipelines keep their components. The denoisers first: the
# model of the inference is the first component in this order.
_PHASES = (
    ("transformer", DENOISE),
    ("unet", DENOISE),
    ("prior", DENOISE),
    ("decoder", DENOISE),
    ("denoiser", DENOISE),
    ("vae", VAE),
    ("vq", VAE),
    ("movq", VAE),
    ("text_encoder", TEXT_ENCODER),
)


def hook(module: ModuleType, api: HookApi) -> None:
    """Wrap the `__call__` of every pipeline class (`diffusers.pipelines.pipeline_utils`)."""
    api.wrap_call(getattr(module, "DiffusionPipeline", None), "__call__", _open)


def _open(pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:
    del args, kwargs
    parts = _components(pipeline)
    model = _model(pipeline, parts)
    return None if model is None else Diffusion(pipeline, parts, model)


class Diffusion(OpenCall):
    """A call of a pipeline."""

    operation = "diffusion"

    def __init__(
        self, pipeline: Any, parts: dict[str, torch.nn.Module], model: torch.nn.Module
    ) -> None:
        self.model = model
        self._pipeline = pipeline
        self._parts = parts

    def opened(self, call: LibraryCall) -> None:
        """Name the pipeline."""
        if call.notes.pipeline is None:
            call.notes.pipeline = type(self._pipeline).__name__

    def phase(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """That of the component which the module is, or is in."""
        del args, kwargs
        module = unwrap(module)
        known = _known.get(module)
        if known is None:
            known = _known[module] = _phase_in(self._parts, module)
        return known

    def result(self, value: Any, call: LibraryCall) -> None:
        """Count the steps, where the pipeline says how many there were."""
        del value
        steps = getattr(self._pipeline, "_num_timesteps", None)
        if isinstance(steps, int):
            call.notes.denoise_steps = (call.notes.denoise_steps or 0) + steps


# Of modules that were called, so that one is looked for in the components only once.
_known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def _components(pipeline: Any) -> dict[str, torch.nn.Module]:
    return {
        name: value for name, value in vars(pipeline).items() if isinstance(value, torch.nn.Module)
    }


def _model(pipeline: Any, parts: dict[str, torch.nn.Module]) -> torch.nn.Module | None:
    for prefix, _ in _PHASES:
        for name, part in parts.items():
            if name.startswith(prefix):
                return part
    if parts:
        return next(iter(parts.values()))
    for value in vars(pipeline).values():  # one that combines pipelines keeps those
        if type(value) is not type(pipeline) and hasattr(value, "components"):
            inner = _components(value)
            if inner:
                return _model(value, inner)
    return None


def _phase_in(parts: dict[str, torch.nn.Module], module: torch.nn.Module) -> int:
    for name, part in parts.items():
        inner = unwrap(part)
        # The VAE's methods call modules inside it.
        if module is inner or any(module is child for child in inner.modules()):
            for prefix, phase in _PHASES:
                if name.startswith(prefix):
                    return phase
    return STEP
