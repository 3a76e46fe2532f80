"""The contract between warpspan and a hook for a library: ours and those of others are alike.

A hook is a function that is called with a module of its library, once the program has imported it,
and with a `HookApi`. It says which methods are calls, steps or host work; the rest is done for it:

    from warpspan.hooks.contract import HookApi, OpenCall

    class Run(OpenCall):
        operation = "run"

        def __init__(self, engine, args, kwargs):
            self.model = engine.model_name
            self._batch = args[0]

        def opened(self, call):
            call.set_batch_size(len(self._batch))

    def hook(module, api: HookApi) -> None:
        api.wrap_call(module.Engine, "run", Run)
        api.wrap_step(module.Engine, "_prefill", "prefill")
        api.wrap_step(module.Engine, "_decode", "decode")

A distribution announces it by an entry point of the group `warpspan_hook`, whose name is the module
that it waits for: `"engine_lib.engine" = "engine_lib_warpspan:hook"`. The hook itself is imported no
sooner than that module. What it does is taken back by `uninstrument()`; what it raises is counted in
`warpspan.faults` as `hook <module>`, logged once, and reaches neither the import nor a call.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal, TypeAlias

from warpspan.hooks import functions, wrapping
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.module_call import Switch
from warpspan.hooks.wrapping import Open
from warpspan.records.phases import (
    ASSISTANT,
    DECODE,
    DENOISE,
    ENCODER,
    PREFILL,
    STEP,
    TEXT_ENCODER,
    VAE,
)
from warpspan.runtime.library_calls import LibraryCall, OpenCall, enclosing_call
from warpspan.runtime.loop_notes import LoopNotes

__all__ = [
    "ASSISTANT",
    "DECODE",
    "DENOISE",
    "ENCODER",
    "PREFILL",
    "STEP",
    "TEXT_ENCODER",
    "VAE",
    "Hook",
    "HookApi",
    "LibraryCall",
    "LoopNotes",
    "Open",
    "OpenCall",
    "enclosing_call",
]


class HookApi:
    """What a hook may have done to the classes of its library.

    Each method takes a class, which may be None where a version of the library has none, and wraps
    a method of it wherever the class or a subclass defines that, now or later. A method that is
    nowhere defined is left out, and so are static and class methods.

    Args:
        origin: whose faults are counted.
        patches: where what is done is noted, to be taken back.
        switch: off, nothing is wrapped any more, and what is wrapped does nothing.
    """

    def __init__(self, origin: str, patches: Patches, switch: Switch) -> None:
        self._origin = origin
        self._patches = patches
        self._switch = switch
        self._families: dict[type[Any], wrapping.Family] = {}

    def wrap_call(self, owner: type[Any] | None, method: str, open_: Open) -> None:
        """Have each call of a method be one inference, or a part of the one that is open.

        Module calls and marked steps inside are its steps.

        Args:
            owner: the class.
            method: its method.
            open_: says what a call is, before it runs: gives an `OpenCall`, or None for a call
                that is not to be recorded. Called with the object, the arguments and the keyword
                arguments, so that a subclass of `OpenCall` serves.
        """
        self._wrap(owner, method, wrapping.call(self._switch, self._origin, open_))

    def wrap_function(self, module: ModuleType, function: str, open_: Open) -> None:
        """Have each call of a module's function be one inference, as `wrap_call` does for a method.

        What has bound the function to another name before calls it as it was.

        Args:
            module: the module, which may lack it.
            function: its function.
            open_: as for `wrap_call`; the object is None.
        """
        if self._switch.tracker is not None:
            wrap = wrapping.call(self._switch, self._origin, open_)
            functions.wrap_function(self._patches, self._switch, module, function, wrap)

    def wrap_step(self, owner: type[Any] | None, method: str, name: str | None = None) -> None:
        """Have each call of a method be one step of the inference that is open, if any.

        Args:
            owner: the class.
            method: its method.
            name: of the step. `prefill`, `decode` and `denoise` make the figures of a generation
                or a diffusion, as with `warpspan.step`.
        """
        self._wrap(owner, method, wrapping.step(self._switch, name))

    def wrap_host_part(
        self, owner: type[Any] | None, method: str, part: Literal["preprocess", "postprocess"]
    ) -> None:
        """Have the host time of a method count as preparing the input or reading the output."""
        self._wrap(owner, method, wrapping.host_part(self._switch, part))

    def wrap_compiled(self, owner: type[Any] | None, method: str) -> None:
        """Have the function that a module's method gives be called as the module itself.

        For a compiled form of the module that does not go through `Module.__call__`.
        """
        self._wrap(owner, method, wrapping.compiled(self._switch))

    def wrap_thread(self, owner: type[Any] | None, start: str, run: str) -> None:
        """Have the steps of a thread belong to the call in which it was started.

        Args:
            owner: the class of the object that owns the thread.
            start: the method that starts it.
            run: the method that it runs.
        """
        starts, runs = wrapping.thread(self._origin)
        self._wrap(owner, start, starts)
        self._wrap(owner, run, runs)

    def _wrap(self, owner: type[Any] | None, method: str, wrap: wrapping.Wrap) -> None:
        if owner is None or self._switch.tracker is None:
            return
        family = self._families.get(owner)
        if family is None:
            family = wrapping.Family(owner, self._patches, self._switch, self._origin)
            self._families[owner] = family
        family.wrap(method, wrap)


#: Called once with the module that the hook waits for.
Hook: TypeAlias = Callable[[ModuleType, HookApi], None]
