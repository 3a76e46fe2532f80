"""transformers: `generate`, pipelines, continuous batching, and the time in tokenizers.

What is read of a call are the shapes of its tensors, its generation configuration and the lengths
of its lists; no token's value.
"""

from __future__ import annotations

import functools
import re
import types
import weakref
from pathlib import Path
from typing import Any

import torch

from warpspan.hooks.libraries import wrapping
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.module_call import Switch, outermost
from warpspan.probes.model import unwrap
from warpspan.records.phases import ASSISTANT, DECODE, ENCODER, PREFILL, STEP
from warpspan.runtime.library_calls import Loop, open_loop
from warpspan.runtime.loop_notes import LoopNotes
from warpspan.runtime.scopes import current
from warpspan.runtime.steps import LoopScope
from warpspan.runtime.tracker import Tracker

_is_dynamo_compiling = torch.compiler.is_dynamo_compiling
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def patch_generate(patches: Patches, switch: Switch, module: Any) -> None:
    """Patch `GenerationMixin.generate` and its overrides (`transformers.generation.utils`)."""
    mixin = getattr(module, "GenerationMixin", None)
    wraps = {
        "generate": wrapping.loop(switch, Generation),
        "generate_batch": wrapping.loop(switch, Batching),
    }
    wrapping.patch(patches, switch, mixin, wraps)


def patch_compiled_call(patches: Patches, switch: Switch, module: Any) -> None:
    """Patch what gives `generate` the compiled model for decoding (`transformers.modeling_utils`).

    It compiles `__call__` itself, so that Dynamo has taken our own out of it.
    """
    owner = getattr(module, "PreTrainedModel", None)
    original = getattr(owner, "get_compiled_call", None)
    if owner is None or original is None:  # an old version compiles nothing by itself
        return

    @functools.wraps(original)
    def get_compiled_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        compiled = original(self, *args, **kwargs)

        def call(*args: Any, **kwargs: Any) -> Any:
            if _is_dynamo_compiling() or current.get().covers:
                return compiled(*args, **kwargs)
            return outermost(switch, compiled, self, args, kwargs)

        return call

    patches.apply(owner, "get_compiled_call", get_compiled_call)


def patch_batching(patches: Patches, switch: Switch, module: Any) -> None:
    """Patch continuous batching (`…continuous_batching.continuous_api`), whose steps run on a thread."""
    mixin = getattr(module, "ContinuousMixin", None)
    if mixin is not None:  # a base of GenerationMixin, whose overrides are patched there
        original = vars(mixin).get("generate_batch")
        if original is not None:
            patches.apply(mixin, "generate_batch", wrapping.loop(switch, Batching)(original))
    manager = getattr(module, "ContinuousBatchingManager", None)
    start, run = getattr(manager, "start", None), getattr(manager, "_run_generation_loop", None)
    if start is None or run is None:
        return
    sections: weakref.WeakKeyDictionary[Any, LoopScope] = weakref.WeakKeyDictionary()

    @functools.wraps(start)
    def noted_start(self: Any, *args: Any, **kwargs: Any) -> Any:
        scope = current.get()
        if isinstance(scope, LoopScope) and scope.takes_steps:
            sections[self] = scope
        return start(self, *args, **kwargs)

    @functools.wraps(run)
    def joined_run(self: Any, *args: Any, **kwargs: Any) -> Any:
        scope = sections.pop(self, None)
        if scope is not None:  # the steps of this thread are those of the call that started it
            current.set(scope)
        return run(self, *args, **kwargs)

    patches.apply(manager, "start", noted_start)
    patches.apply(manager, "_run_generation_loop", joined_run)


def patch_pipelines(patches: Patches, switch: Switch, module: Any) -> None:
    """Patch `Pipeline` and the methods that its tasks override (`transformers.pipelines.base`)."""
    wraps = {
        "__call__": wrapping.loop(switch, Pipeline),
        # What a pipeline does for each batch, also of an iterator that it returned.
        "forward": wrapping.loop(switch, Pipeline),
        "preprocess": wrapping.part(switch, "preprocess"),
        "postprocess": wrapping.part(switch, "postprocess"),
    }
    wrapping.patch(patches, switch, getattr(module, "Pipeline", None), wraps)


def patch_tokenizers(patches: Patches, switch: Switch, module: Any) -> None:
    """Patch the tokenizers' common base (`transformers.tokenization_utils_base`)."""
    owner = getattr(module, "PreTrainedTokenizerBase", None)
    for name, part in (
        ("__call__", "preprocess"),
        ("decode", "postprocess"),
        ("batch_decode", "postprocess"),
    ):
        original = vars(owner).get(name) if owner is not None else None
        if original is not None:
            patches.apply(owner, name, wrapping.part(switch, part)(original))


class Generation:
    """A call of `generate`. Of the models in it, `self` is the one whose calls are its steps."""

    def __init__(
        self, tracker: Tracker, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        scope = current.get()
        outer = getattr(scope.phase_of, "__self__", None) if isinstance(scope, LoopScope) else None
        self._outer = outer if isinstance(outer, Generation) else None
        self._model = unwrap(model)
        config = _argument(args, kwargs, 1, "generation_config")
        self._assists: bool = self._outer is not None and (
            self._outer._assists
            or self._outer._model is not self._model
            # Early exit lets the model assist itself.
            or bool(getattr(config, "is_assistant", False))
        )
        given = _argument(args, kwargs, 0, "inputs")
        self._given: Any = given if given is not None else kwargs.get("input_ids")
        self._embeds: Any = kwargs.get("inputs_embeds")
        self._chunks = self._prefill_chunks(config, kwargs)
        self._encodes = bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))
        #: Calls of the model that `phase` was asked about; the section counts the others.
        self._steps = 0
        #: Shape of the sequences that the first step of the model saw.
        self._seen: torch.Size | None = None
        #: The tokens are told by a call of `generate` inside, as Whisper's own makes.
        self._told = False
        self.loop: Loop | None = open_loop(tracker, "generate", model, self.phase, self._opened)

    def _opened(self, sections: LoopNotes) -> None:
        if sections.first_chunks is None:
            sections.first_chunks = self._chunks
        if self._outer is None and (_are_tokens(self._given) or _are_embeddings(self._embeds)):
            sections.operation = "text_completion"
            sections.model = hub_name(self._model)

    def phase(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """What a module call is to this generation."""
        del args
        if self._assists:
            return ASSISTANT
        if module is not self._model and unwrap(module) is not self._model:
            return ENCODER
        self._steps += 1
        if self._steps > self._chunks:
            self._section.repeat_phase(module, DECODE)
            return DECODE
        if self._steps == 1:
            ids: Any = kwargs.get("decoder_input_ids" if self._encodes else "input_ids")
            self._seen = ids.shape if _are_tokens(ids) else None
        return PREFILL

    @property
    def _section(self) -> LoopScope:
        return self.loop.section  # type: ignore[return-value, union-attr]

    def result(self, value: Any) -> None:
        """Count the tokens."""
        if self._assists or self._told:
            return
        if self._outer is not None:
            self._outer._told = True
        given, offset = self._prompt()
        sequences: Any = getattr(value, "sequences", value)
        generated = length = None
        sections: LoopNotes = self.loop.sections  # type: ignore[assignment, union-attr]
        if _are_tokens(sequences) and offset is not None and sequences.shape[1] >= offset:
            length = sequences.shape[1] - offset
            generated = length * sequences.shape[0]
            if length > self._steps + self._section.repeats - self._chunks + 1:
                sections.speculative = True
        sections.add_tokens(given, generated, length)

    def _prompt(self) -> tuple[int | None, int | None]:
        """Tokens of the input, and how many of those of a returned sequence were given."""
        given = self._given.numel() if _are_tokens(self._given) else None
        seen = self._seen
        if self._encodes:
            return given, None if seen is None else seen[1]
        if given is not None:
            return given, self._given.shape[1]
        if _are_embeddings(self._embeds):
            return self._embeds.shape[0] * self._embeds.shape[1], 0
        return (None, None) if seen is None else (seen.numel(), seen[1])

    def _prefill_chunks(self, config: Any, kwargs: dict[str, Any]) -> int:
        size = kwargs.get("prefill_chunk_size")
        if size is None:
            config = config or getattr(self._model, "generation_config", None)
            size = getattr(config, "prefill_chunk_size", None)
        if not isinstance(size, int) or size <= 0 or not _are_tokens(self._given):
            return 1
        length: int = self._given.shape[1]
        return max(1, -(-length // size))


class Batching:
    """A call of `generate_batch`. A step works on the prompts and tokens of many sequences."""

    def __init__(
        self, tracker: Tracker, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._inputs = _argument(args, kwargs, 0, "inputs")
        self._model = unwrap(model)
        self.loop: Loop | None = open_loop(tracker, "generate", model, _plain, self._opened)

    def _opened(self, sections: LoopNotes) -> None:
        sections.operation = "text_completion"
        sections.model = hub_name(self._model)

    def result(self, value: Any) -> None:
        """Count the tokens of all sequences, which are not padded."""
        sections: LoopNotes = self.loop.sections  # type: ignore[assignment, union-attr]
        sections.add_tokens(
            sum(map(len, self._inputs)),
            sum(len(output.generated_tokens) for output in value.values()),
            None,
        )


class Pipeline:
    """A call of a pipeline, or of one batch of an iterator that it returned."""

    def __init__(
        self, tracker: Tracker, pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._task = getattr(pipeline, "task", None) or type(pipeline).__name__
        self.loop: Loop | None = None
        inputs = args[0] if args else next(iter(kwargs.values()), None)
        model = getattr(pipeline, "model", None)
        # What is streamed is worked on when it is asked for, a batch at a time.
        streamed = isinstance(inputs, (types.GeneratorType, torch.utils.data.Dataset))
        if isinstance(model, torch.nn.Module) and not streamed:
            self.loop = open_loop(tracker, "pipeline", model, _plain, self._opened)

    def _opened(self, sections: LoopNotes) -> None:
        if sections.pipeline is None:
            sections.pipeline = str(self._task)

    def result(self, value: Any) -> None:
        """Nothing to count."""


def hub_name(model: Any) -> str | None:
    """The name of a model on the Hub, as its configuration has it."""
    name = getattr(getattr(model, "config", None), "_name_or_path", None)
    return name if isinstance(name, str) and _is_hub_name(name) else None


@functools.lru_cache(maxsize=256)
def _is_hub_name(name: str) -> bool:
    return _HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


def _plain(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    del module, args, kwargs
    return STEP


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], index: int, name: str) -> Any:
    return args[index] if len(args) > index else kwargs.get(name)


def _are_tokens(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.dim() == 2
        and not value.is_floating_point()
        and not value.is_complex()
    )


def _are_embeddings(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 3
