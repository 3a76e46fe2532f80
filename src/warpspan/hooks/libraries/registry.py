"""Libraries on top of torch: patched when the program has imported them, never imported by us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wrapt import register_post_import_hook

from warpspan import guard
from warpspan.hooks.libraries import diffusers, sentence_transformers, transformers
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.module_call import Switch

_BATCHING = "transformers.generation.continuous_batching.continuous_api"

_HOOKS: tuple[tuple[str, Callable[[Patches, Switch, Any], None]], ...] = (
    ("transformers.generation.utils", transformers.patch_generate),
    (_BATCHING, transformers.patch_batching),
    ("transformers.modeling_utils", transformers.patch_compiled_call),
    ("transformers.pipelines.base", transformers.patch_pipelines),
    ("transformers.tokenization_utils_base", transformers.patch_tokenizers),
    ("sentence_transformers", sentence_transformers.patch),
    ("diffusers.pipelines.pipeline_utils", diffusers.patch),
)


def patch(patches: Patches, switch: Switch) -> None:
    """Patch what is imported, and what will be while the switch is on."""
    for name, hook in _HOOKS:
        register_post_import_hook(_when_imported(patches, switch, hook), name)


def _when_imported(
    patches: Patches, switch: Switch, hook: Callable[[Patches, Switch, Any], None]
) -> Callable[[Any], None]:
    def imported(module: Any) -> None:
        if switch.tracker is None:
            return
        try:
            hook(patches, switch, module)
        except Exception as error:  # a library that is built otherwise: its calls are not told
            guard.caught("patch", error)

    return imported
