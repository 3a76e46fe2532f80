"""transformers: `generate`, pipelines, continuous batching, and the time in tokenizers.

What is read of a call are the shapes of its tensors, its generation configuration and the lengths
of its lists; no token's value.
"""

from __future__ import annotations

import functools
import re
import types
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from warpspan.hooks.contract import (
    ASSISTANT,
    DECODE,
    ENCODER,
    PREFILL,
    HookApi,
    LibraryCall,
    OpenCall,
    enclosing_call,
)
from warpspan.probes.model import unwrap

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def hook_generate(module: ModuleType, api: HookApi) -> None:
    """Wrap `GenerationMixin.generate` and its overrides (`transformers.generation.utils`)."""
    mixin = getattr(module, "GenerationMixin", None)
    api.wrap_call(mixin, "generate", Generation)
    api.wrap_call(mixin, "generate_batch", Batching)


def hook_compiled_call(module: ModuleType, api: HookApi) -> None:
    """Wrap what gives `generate` the compiled model for decoding (`transformers.modeling_utils`).

    It compiles `__call__` itself, so that Dynamo has taken our own out of it.
    """
    api.wrap_compiled(getattr(module, "PreTrainedModel", None), "get_compiled_call")


def hook_batching(module: ModuleType, api: HookApi) -> None:
    """Wrap continuous batching (`…continuous_batching.continuous_api`), whose steps run on a thread."""
    api.wrap_call(getattr(module, "ContinuousMixin", None), "generate_batch", Batching)
    manager = getattr(module, "ContinuousBatchingManager", None)
    api.wrap_thread(manager, "start", "_run_generation_loop")


def hook_pipelines(module: ModuleType, api: HookApi) -> None:
    """Wrap `Pipeline` and the methods that its tasks override (`transformers.pipelines.base`)."""
    pipeline = getattr(module, "Pipeline", None)
    api.wrap_call(pipeline, "__call__", Pipeline.open)
    # What a pipeline does for each batch, also of an iterator that it returned.
    api.wrap_call(pipeline, "forward", Pipeline.open)
    api.wrap_host_part(pipeline, "preprocess", "preprocess")
    api.wrap_host_part(pipeline, "postprocess", "postprocess")


def hook_tokenizers(module: ModuleType, api: HookApi) -> None:
    """Wrap the tokenizers' common base (`transformers.tokenization_utils_base`)."""
    tokenizer = getattr(module, "PreTrainedTokenizerBase", None)
    api.wrap_host_part(tokenizer, "__call__", "preprocess")
    api.wrap_host_part(tokenizer, "decode", "postprocess")
    api.wrap_host_part(tokenizer, "batch_decode", "postprocess")


class Generation(OpenCall):
    """A call of `generate`. Of the models in it, `self` is the one whose calls are its steps."""

    operation = "generate"
    _call: LibraryCall

    def __init__(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        outer = enclosing_call()
        self._outer = outer if isinstance(outer, Generation) else None
        self.model: torch.nn.Module = model
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
        #: Calls of the model that `phase` was asked about; `repeats` counts the others.
        self._steps = 0
        #: Shape of the sequences that the first step of the model saw.
        self._seen: torch.Size | None = None
        #: The tokens are told by a call of `generate` inside, as Whisper's own makes.
        self._told = False

    def opened(self, call: LibraryCall) -> None:
        """The outermost one names the model."""
        self._call = call
        notes = call.notes
        if notes.first_chunks is None:
            notes.first_chunks = self._chunks
        if self._outer is None and (_are_tokens(self._given) or _are_embeddings(self._embeds)):
            notes.operation = "text_completion"
            notes.model = hub_name(self._model)

    def phase(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """What a module call is to this generation."""
        del args
        if self._assists:
            return ASSISTANT
        if module is not self._model and unwrap(module) is not self._model:
            return ENCODER
        self._steps += 1
        if self._steps > self._chunks:
            self._call.repeat(module, DECODE)
            return DECODE
        if self._steps == 1:
            ids: Any = kwargs.get("decoder_input_ids" if self._encodes else "input_ids")
            self._seen = ids.shape if _are_tokens(ids) else None
        return PREFILL

    def result(self, value: Any, call: LibraryCall) -> None:
        """Count the tokens."""
        if self._assists or self._told:
            return
        if self._outer is not None:
            self._outer._told = True
        given, offset = self._prompt()
        sequences: Any = getattr(value, "sequences", value)
        generated = length = None
        if _are_tokens(sequences) and offset is not None and sequences.shape[1] >= offset:
            length = sequences.shape[1] - offset
            generated = length * sequences.shape[0]
            if length > self._steps + call.repeats - self._chunks + 1:
                call.notes.speculative = True
        call.notes.add_tokens(given, generated, length)

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


class Batching(OpenCall):
    """A call of `generate_batch`. A step works on the prompts and tokens of many sequences."""

    operation = "generate"

    def __init__(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.model: torch.nn.Module = model
        self._inputs = _argument(args, kwargs, 0, "inputs")

    def opened(self, call: LibraryCall) -> None:
        """Name the model."""
        call.notes.operation = "text_completion"
        call.notes.model = hub_name(unwrap(self.model))

    def result(self, value: Any, call: LibraryCall) -> None:
        """Count the tokens of all sequences, which are not padded."""
        call.notes.add_tokens(
            sum(map(len, self._inputs)),
            sum(len(output.generated_tokens) for output in value.values()),
            None,
        )


class Pipeline(OpenCall):
    """A call of a pipeline, or of one batch of an iterator that it returned."""

    operation = "pipeline"

    def __init__(self, pipeline: Any) -> None:
        self.model = pipeline.model
        self._task = getattr(pipeline, "task", None) or type(pipeline).__name__

    @classmethod
    def open(cls, pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:
        """What is streamed is worked on when it is asked for, a batch at a time."""
        inputs = args[0] if args else next(iter(kwargs.values()), None)
        streamed = isinstance(inputs, (types.GeneratorType, torch.utils.data.Dataset))
        model = getattr(pipeline, "model", None)
        return cls(pipeline) if isinstance(model, torch.nn.Module) and not streamed else None

    def opened(self, call: LibraryCall) -> None:
        """Name the task."""
        if call.notes.pipeline is None:
            call.notes.pipeline = str(self._task)


def hub_name(model: Any) -> str | None:
    """The name of a model on the Hub, as its configuration has it."""
    name = getattr(getattr(model, "config", None), "_name_or_path", None)
    return name if isinstance(name, str) and _is_hub_name(name) else None


@functools.lru_cache(maxsize=256)
def _is_hub_name(name: str) -> bool:
    return _HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


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
