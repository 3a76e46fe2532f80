"""`apply(model)`: a transformers model computes with the fused kernels, until `restore()`.

Only the `forward` of matching modules is replaced, on the instance: classes, parameters,
state dict, hooks and other models stay as they are. Matching is by the class names whose `forward`
was read and compared; what only looks alike (Gemma's norm adds 1 to its weight) is left alone.

Llama, Mistral, Qwen2 and Qwen3: RMSNorm, residual addition with the norm after it, RoPE, SwiGLU.
BERT and RoBERTa: residual addition with LayerNorm. Their bias and GELU stay: cuBLAS adds the bias
within the matrix product, so that fusing it with GELU saves no launch there.
"""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
import triton

from .add_layer_norm import add_layer_norm
from .add_rms_norm import _kernel as add_rms_norm_kernel
from .add_rms_norm import add_rms_norm, rms_norm
from .rope import rope
from .swiglu import swiglu

_LLAMA_LIKE = ("Llama", "Mistral", "Qwen2", "Qwen3")
_BERT_LIKE = ("Bert", "Roberta", "XLMRoberta")
_ROPE = "apply_rotary_pos_emb"

Module = Any  # a torch module of a known class: its attributes are known by name only
Forward = Callable[..., Any]


class Applied(AbstractContextManager["Applied"]):
    """What `apply` replaced: `counts` by operation, `restore()` to undo it, also as `with`."""

    def __init__(self, modules: list[torch.nn.Module], counts: dict[str, int]) -> None:
        self.counts = counts
        self._swapped = modules

    def restore(self) -> None:
        """Give every module its own forward again; a second call does nothing."""
        while self._swapped:
            vars(self._swapped.pop()).pop("forward", None)

    def __exit__(self, *_: object) -> None:
        self.restore()


def apply(model: torch.nn.Module) -> Applied:
    """Let the matching modules of `model` compute with the fused kernels.

    Apply it before `torch.compile`, and to a model that is on its GPU already.

    Args:
        model: a transformers model, Llama-, Mistral-, Qwen- or BERT-like, or a part of one.

    Returns:
        A handle with `counts` and `restore()`; it is a context manager too.

    Raises:
        ValueError: nothing in the model matches.
        RuntimeError: the model is not on a GPU.
    """
    parameter = next(model.parameters(), None)
    if parameter is not None and parameter.device.type == "cpu" and not _interpreted():
        raise RuntimeError("Fused kernels run on a GPU: move the model there first (model.cuda()).")
    modules, counts = [], Counter[str]()
    for module, operation, forward in _replacements(model):
        module.forward = forward
        modules.append(module)
        counts[operation] += 1
    if not modules:
        raise ValueError(
            f"Nothing in {type(model).__name__} matches a fused kernel. Known are the transformers "
            "models Llama, Mistral, Qwen2, Qwen3, BERT and RoBERTa."
        )
    return Applied(modules, dict(counts))


def _interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, which is decided when they are defined."""
    return not isinstance(add_rms_norm_kernel, triton.JITFunction)


def _replacements(model: torch.nn.Module) -> Iterator[tuple[Module, str, Forward]]:
    for module in model.modules():
        if "forward" in vars(module):  # someone replaced it already: theirs, or ours
            continue
        name = type(module).__name__
        family = next((f for f in (*_LLAMA_LIKE, *_BERT_LIKE) if name.startswith(f)), None)
        if family is None:
            continue
        part = name.removeprefix(family)
        if family in _BERT_LIKE:
            if part in ("SelfOutput", "Output"):
                yield module, "add_layer_norm", types.MethodType(_bert_output, module)
        elif part == "RMSNorm":
            yield module, "rms_norm", types.MethodType(_rms_norm, module)
        elif part == "DecoderLayer":
            yield module, "add_rms_norm", types.MethodType(_decoder_layer, module)
        elif part == "MLP" and _is_silu(module.act_fn):
            yield module, "swiglu", types.MethodType(_mlp, module)
        elif part == "Attention" and (forward := _with_rope(type(module).forward)):
            yield module, "rope", types.MethodType(forward, module)


def _is_silu(activation: object) -> bool:
    return type(activation).__name__ in ("SiLU", "SiLUActivation")


def _with_rope(forward: object) -> Forward | None:
    """The forward of an attention with the fused kernel for its global `apply_rotary_pos_emb`.

    Attentions differ in all but this call, so the function is kept and one of its globals is
    bound anew, for this copy only.
    """
    if not isinstance(forward, types.FunctionType) or _ROPE not in forward.__code__.co_names:
        return None
    names = {**forward.__globals__, _ROPE: rope}
    # Dynamo looks globals up in the module called __name__, past this dictionary.
    del names["__name__"]
    copy = types.FunctionType(
        forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__
    )
    copy.__kwdefaults__ = forward.__kwdefaults__
    return copy


def _rms_norm(self: Module, hidden_states: torch.Tensor) -> torch.Tensor:
    return rms_norm(hidden_states, self.weight, self.variance_epsilon)


def _mlp(self: Module, x: torch.Tensor) -> torch.Tensor:
    return self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))


def _decoder_layer(self: Module, hidden_states: torch.Tensor, **arguments: Any) -> torch.Tensor:
    mixed, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **arguments)
    norm = self.post_attention_layernorm
    normed, total = add_rms_norm(mixed, hidden_states, norm.weight, norm.variance_epsilon)
    return total + self.mlp(normed)


def _bert_output(
    self: Module, hidden_states: torch.Tensor, input_tensor: torch.Tensor
) -> torch.Tensor:
    norm = self.LayerNorm
    mixed = self.dropout(self.dense(hidden_states))
    return add_layer_norm(mixed, input_tensor, norm.weight, norm.bias, norm.eps)
