"""A KV cache that is never cleared: it grows with every request, and so does the work.

The article's first case. Each request adds its tokens to one cache, and attends to those of all
requests before. Cured, the cache is cleared after each request: memory plateaus, and the cycles of
an inference stay what the first one took.
"""

from __future__ import annotations

import torch
from common import device, is_cured, serve
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

CURED = is_cured(__doc__.splitlines()[0])
torch.manual_seed(7)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=256,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=16384,
    )
)
model = model.eval().to(device())
cache = DynamicCache()


def answer(prompt: torch.Tensor) -> torch.Tensor:
    """The most likely next tokens of a prompt."""
    global cache
    if CURED:
        cache = DynamicCache()
    with torch.inference_mode():
        return model(input_ids=prompt, past_key_values=cache, use_cache=True).logits.argmax(-1)


serve(answer, (torch.randint(0, 256, (1, 128)).to(device()) for _ in range(60)))
