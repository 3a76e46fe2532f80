"""A whole model end to end: eager, compiled, and with the fused kernels of `warpspan.fused`.

The three share their weights and take turns. Two passes are timed: the prefill of a prompt, and a
greedy decode of some tokens over its KV cache, each an inference with a span of its own where
warpspan is instrumented (`warpspan.inference`), so that the same figures can be read from traces.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from warpspan.api import inference
from warpspan.kernels.bench.correctness import Error, compare
from warpspan.kernels.bench.fused import BenchDevice
from warpspan.kernels.bench.harness import spread
from warpspan.kernels.bench.rows import BenchRow
from warpspan.kernels.swap import apply

MODES = ("eager", "compile", "fused")
OP = "model"

# Llama 3.2 1B by its sizes, and a model that Triton's interpreter gets through.
LLAMA_1B = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 64,
}


class Sizes(NamedTuple):
    """What is asked of the model."""

    batch: int
    prompt: int
    new_tokens: int


def random_model(sizes: dict[str, int], dtype: torch.dtype, device: torch.device) -> Any:
    """A Llama of these sizes with random weights.

    Raises:
        ImportError: transformers is not installed.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True))
    return model.to(dtype).eval()


def load(name: str, dtype: torch.dtype, device: torch.device) -> Any:
    """A causal language model of transformers, from a path or a name.

    Raises:
        OSError: there is none at that path or name.
        ValueError: it is no causal language model.
        ImportError: transformers is not installed.
    """
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(name, dtype=dtype).to(device).eval()


def modes(model: torch.nn.Module, names: Sequence[str]) -> dict[str, Any]:
    """The model in each mode, by copies that share its weights.

    Copies, as torch.compile would compile again whenever a module's forward is swapped.

    Raises:
        ValueError: nothing in the model matches a fused kernel.
        RuntimeError: the model is not on a GPU.
    """
    shared: dict[int, Any] = {
        id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())
    }
    made: dict[str, Any] = {}
    for name in names:
        one: Any = copy.deepcopy(model, dict(shared))
        if name == "fused":
            apply(one)
        made[name] = torch.compile(one, dynamic=False) if name == "compile" else one
    return made


def cache_maker(model: Any, capacity: int) -> Callable[[], Any]:
    """Makes empty KV caches of fixed shape, which all modes can use and compiled ones need."""
    from transformers import StaticCache

    return lambda: StaticCache(config=model.config, max_cache_len=capacity)


def prefill(model: Any, ids: torch.Tensor, cache: Any) -> torch.Tensor:
    """Logits (batch, tokens, vocabulary) of a prompt; its keys and values go to `cache`."""
    return model(input_ids=ids, past_key_values=cache, use_cache=True).logits  # type: ignore[no-any-return]


def decode(model: Any, token: torch.Tensor, cache: Any, steps: int) -> torch.Tensor:
    """Greedy decoding: the tokens (batch, steps), with no synchronization between steps."""
    tokens = []
    for _ in range(steps):
        logits = model(input_ids=token, past_key_values=cache, use_cache=True).logits
        token = logits[:, -1:].argmax(-1)
        tokens.append(token)
    return torch.cat(tokens, dim=1)


def judged(
    model: torch.nn.Module,
    made: dict[str, Any],
    ids: torch.Tensor,
    new_cache: Callable[[], Any],
    exact_dtype: torch.dtype,
) -> dict[str, Error]:
    """The correctness rule for the logits of every mode but eager.

    Args:
        model: whose copy in `exact_dtype` is the reference.
        made: from `modes`, `eager` among them.
        ids: (batch, tokens): all but the last are a prefill, the last one is a decode step.
        new_cache: an empty KV cache.
        exact_dtype: float64, or float32 where float64 does not fit.
    """

    def logits(one: Any) -> torch.Tensor:
        cache = new_cache()
        first = prefill(one, ids[:, :-1], cache)
        return torch.cat((first, prefill(one, ids[:, -1:], cache)), dim=1)

    eager = logits(made["eager"])
    exact = logits(copy.deepcopy(model).to(exact_dtype))
    return {
        name: compare(logits(one), eager, exact.double())
        for name, one in made.items()
        if name != "eager"
    }


def run(
    made: dict[str, Any],
    sizes: Sizes,
    device: BenchDevice,
    new_cache: Callable[[], Any],
    *,
    dtype: torch.dtype,
    generator: torch.Generator,
    rounds: int,
    errors: dict[str, Error],
) -> list[BenchRow]:
    """Time prefill and decode of each mode in turns; a row for each, times of one pass or token.

    Args:
        made: from `modes`; `eager` among them for speed-ups.
        sizes: batch, prompt length and tokens to decode.
        device: to time on.
        new_cache: an empty KV cache with room for prompt and new tokens.
        dtype: of the weights.
        generator: for the prompts.
        rounds: turns of each mode.
        errors: from `judged`.
    """
    vocabulary = next(iter(made.values())).config.vocab_size

    def prompt() -> torch.Tensor:
        shape = (sizes.batch, sizes.prompt)
        return torch.randint(vocabulary, shape, generator=generator, device=generator.device)

    def passes(name: str) -> dict[str, float]:
        """Device and host seconds of both passes."""
        model, ids, cache = made[name], prompt(), new_cache()
        device.synchronize()
        marks, start = [device.record()], [device.now()]
        with inference("prefill", model=model):
            logits = prefill(model, ids, cache)
        marks.append(device.record())
        device.synchronize()
        start.append(device.now())
        token = logits[:, -1:].argmax(-1)
        device.synchronize()
        marks.append(device.record())
        start.append(device.now())
        with inference("decode", model=model):
            decode(model, token, cache, sizes.new_tokens)
        marks.append(device.record())
        device.synchronize()
        start.append(device.now())
        return {
            "prefill device": device.elapsed_s(marks[0], marks[1]),
            "prefill wall": start[1] - start[0],
            "decode device": device.elapsed_s(marks[2], marks[3]) / sizes.new_tokens,
            "decode wall": (start[3] - start[2]) / sizes.new_tokens,
        }

    first = {name: sum(v for k, v in passes(name).items() if k.endswith("wall")) for name in made}
    counted = {name: _counted(made[name], prompt, new_cache, device) for name in made}
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in made}
    for _ in range(rounds):
        for name in made:
            samples[name].append(passes(name))
    rows = []
    for phase, shape in (
        ("prefill", f"B={sizes.batch},S={sizes.prompt}"),
        ("decode", f"B={sizes.batch},S={sizes.prompt},new={sizes.new_tokens}"),
    ):
        walls = {n: spread([s[f"{phase} wall"] for s in samples[n]]).p50_s for n in made}
        for name in made:
            on_device = spread([one[f"{phase} device"] for one in samples[name]])
            launches, peak = counted[name][phase]
            rows.append(
                BenchRow(
                    OP,
                    shape,
                    phase,
                    str(dtype).removeprefix("torch."),
                    name,
                    "",
                    method="events",
                    launches=launches,
                    device_p20_s=on_device.p20_s,
                    device_p50_s=on_device.p50_s,
                    device_p80_s=on_device.p80_s,
                    wall_s=walls[name],
                    peak_bytes=peak,
                    max_error=errors[name].largest if name in errors else None,
                    error_ratio=errors[name].ratio if name in errors else None,
                    # End to end is what a caller waits for: host time, not device time.
                    speedup=walls["eager"] / walls[name] if "eager" in walls else None,
                    first_call_s=first[name],
                )
            )
    return rows


def _counted(
    model: Any,
    prompt: Callable[[], torch.Tensor],
    new_cache: Callable[[], Any],
    device: BenchDevice,
) -> dict[str, tuple[int, int]]:
    """Launches and peak bytes of a prefill and of one decode step, in passes of their own."""
    ids, cache = prompt(), new_cache()
    prefill(model, ids, cache)

    def whole() -> torch.Tensor:
        return prefill(model, ids, new_cache())

    def step() -> torch.Tensor:
        return decode(model, ids[:, -1:], cache, 1)

    return {
        "prefill": (device.launches(whole), device.peak_bytes(whole)),
        "decode": (device.launches(step), device.peak_bytes(step)),
    }
