"""diffusers: a call of any pipeline is one inference, its module calls told apart by component."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from warpspan.hooks.libraries import wrapping
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.module_call import Switch
from warpspan.probes.model import unwrap
from warpspan.records.phases import DENOISE, STEP, TEXT_ENCODER, VAE
from warpspan.runtime.library_calls import Loop, open_loop
from warpspan.runtime.loop_notes import LoopNotes
from warpspan.runtime.tracker import Tracker

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


def patch(patches: Patches, switch: Switch, module: Any) -> None:
    """Patch the `__call__` of every pipeline class (`diffusers.pipelines.pipeline_utils`)."""
    base = getattr(module, "DiffusionPipeline", None)
    wrapping.patch(patches, switch, base, {"__call__": wrapping.loop(switch, _Diffusion)})


class _Diffusion:
    def __init__(
        self, tracker: Tracker, pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        del args, kwargs
        self._pipeline = pipeline
        self._parts = _components(pipeline)
        self.loop: Loop | None = None
        model = _model(pipeline, self._parts)
        if model is not None:
            self.loop = open_loop(tracker, "diffusion", model, self._phase, self._opened)

    def _opened(self, sections: LoopNotes) -> None:
        if sections.pipeline is None:
            sections.pipeline = type(self._pipeline).__name__

    def _phase(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        del args, kwargs
        module = unwrap(module)
        known = _known.get(module)
        if known is None:
            known = _known[module] = _phase_in(self._parts, module)
        return known

    def result(self, value: Any) -> None:
        """Count the steps, where the pipeline says how many there were."""
        del value
        steps = getattr(self._pipeline, "_num_timesteps", None)
        sections: LoopNotes = self.loop.sections  # type: ignore[assignment, union-attr]
        if isinstance(steps, int):
            sections.denoise_steps = (sections.denoise_steps or 0) + steps


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
