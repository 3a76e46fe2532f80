"""The hooks for libraries: our own, and those that installed distributions announce.

Each waits for a module that the program imports; none imports a library.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from types import ModuleType
from typing import TypeAlias

from warpspan import guard
from warpspan.hooks.contract import Hook, HookApi
from warpspan.hooks.libraries import (
    diffusers,
    sentence_transformers,
    transformers,
)
from warpspan.hooks.libraries import (
    entry_points as entries,
)
from warpspan.hooks.libraries.known import ENTRIES
from warpspan.hooks.on_import import OnImport
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.module_call import Switch

#: The group of entry points. An entry point's name is the module that its hook waits for.
GROUP = "warpspan_hook"

OWN: dict[str, Hook] = {
    "transformers.generation.utils": transformers.hook_generate,
    "transformers.generation.continuous_batching.continuous_api": transformers.hook_batching,
    "transformers.modeling_utils": transformers.hook_compiled_call,
    "transformers.pipelines.base": transformers.hook_pipelines,
    "transformers.tokenization_utils_base": transformers.hook_tokenizers,
    "sentence_transformers": sentence_transformers.hook,
    "diffusers.pipelines.pipeline_utils": diffusers.hook,
}

_Load: TypeAlias = Callable[[], Hook]


def patch(patches: Patches, switch: Switch, named: Iterable[str] = ()) -> None:
    """Call each hook for whose module the program has imported, or will while the switch is on.

    Args:
        patches: where what they do is noted.
        switch: off, none is called.
        named: entry points that the user named, as `package.module:Class.method`.
    """
    for name, hook in OWN.items():
        _await(patches, switch, name, functools.partial(_given, hook))
    for name, rows in itertools.groupby(ENTRIES, key=operator.attrgetter("module")):
        _await(patches, switch, name, functools.partial(_given, entries.hook_of_rows(list(rows))))
    for written in named:
        parsed = entries.parse(written)
        if parsed is not None:
            module, path = parsed
            package = module.rpartition(".")[0]
            if package:
                check = entries.check_of_user(written, module)
                _await(patches, switch, package, functools.partial(_given, check))
            hook = entries.hook_of_user(written, path)
            _await(patches, switch, module, functools.partial(_given, hook))
    for name, load in _installed():
        _await(patches, switch, name, load)


def _await(patches: Patches, switch: Switch, name: str, load: _Load) -> None:
    waiting = OnImport(name, functools.partial(_imported, patches, switch, name, load))

    def cancel() -> list[str]:
        waiting.cancel()
        return []

    patches.on_restore(cancel)


def _imported(patches: Patches, switch: Switch, name: str, load: _Load, module: ModuleType) -> None:
    origin = f"hook {name}"
    if switch.tracker is None:
        return
    try:
        load()(module, HookApi(origin, patches, switch))
    except Exception as error:  # a library that is built otherwise: its calls are not told
        guard.caught(origin, error)


def _given(hook: Hook) -> Hook:
    return hook


def _installed() -> Iterator[tuple[str, _Load]]:
    try:
        for point in entry_points(group=GROUP):
            yield point.name, point.load
    except Exception as error:  # metadata that can't be read
        guard.caught("entry points", error)
