"""A chat service that forgets to forget: each conversation's KV cache stays in a dict for ever.

    warpspan run -- python examples/kv_cache.py

The report names the model whose caches are not released, since when, and how much they hold. With
`--evict 4` only the four latest conversations are kept, and nothing is named. The model is a tiny
Llama with random weights, which says nothing of sense; nothing here knows of telemetry.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--conversations", type=int, default=60)
parser.add_argument("--evict", type=int, default=0, metavar="N", help="keep the latest N only")
options = parser.parse_args()

torch.manual_seed(7)
device = "cuda" if torch.cuda.is_available() else "cpu"
config = LlamaConfig(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    bos_token_id=1,
    eos_token_id=2,
)
model = LlamaForCausalLM(config).eval().to(device)

# The bug: without --evict nothing is ever taken out.
conversations: OrderedDict[int, DynamicCache] = OrderedDict()


def answer(conversation: int, prompt: torch.Tensor, length: int = 8) -> list[int]:
    """The tokens of an answer, the most likely one at each step."""
    cache = conversations.setdefault(conversation, DynamicCache())
    tokens, output = prompt, []
    for _ in range(length):
        logits = model(input_ids=tokens, past_key_values=cache, use_cache=True).logits
        tokens = logits[:, -1:].argmax(-1)
        output.append(int(tokens))
    if options.evict and len(conversations) > options.evict:
        conversations.popitem(last=False)
    return output


with torch.inference_mode():
    for conversation in range(options.conversations):
        question = torch.randint(3, 256, (1, 16), device=device)
        last = answer(conversation, question)
print(f"{len(conversations)} conversations are kept; the last answer was {last}")
