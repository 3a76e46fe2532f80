"""Small models that keep KV caches, and what their caches must hold, computed by hand."""

from __future__ import annotations

import pytest
import torch

transformers = pytest.importorskip("transformers")

NEW = int(transformers.__version__.partition(".")[0]) >= 5
BATCH, LAYERS, HEADS, KV_HEADS, HEAD, FLOAT = 2, 2, 4, 2, 8, 4


def decoder(name="Llama", **config):
    """A decoder of two layers, four heads and two of keys and values."""
    values = {
        "vocab_size": 64,
        "hidden_size": HEADS * HEAD,
        "intermediate_size": 16,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    kind = getattr(transformers, f"{name}Config")
    return getattr(transformers, f"{name}ForCausalLM")(kind(**(values | config))).eval()


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=64, n_embd=HEADS * HEAD, n_layer=LAYERS, n_head=HEADS, bos_token_id=1,
        eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).eval()


def t5():
    config = transformers.T5Config(
        vocab_size=64, d_model=HEADS * HEAD, d_kv=HEAD, d_ff=16, num_layers=LAYERS,
        num_heads=HEADS, decoder_start_token_id=0,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config).eval()


def mamba():
    config = transformers.MambaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=LAYERS, state_size=4, conv_kernel=4,
        expand=2, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return transformers.MambaForCausalLM(config).eval()


def ids(tokens):
    return torch.arange(BATCH * tokens).reshape(BATCH, tokens) % 60 + 3


def size(tokens, heads=KV_HEADS, layers=LAYERS, batch=BATCH):
    """Bytes of the keys and values of some tokens."""
    return 2 * layers * batch * heads * tokens * HEAD * FLOAT


def seen(telemetry):
    """Kind, size, increase, tokens, their increase, capacity and layers of each inference."""
    return [record.cache and tuple(record.cache[:7]) for record in telemetry.records()]


KIND = "dynamic" if NEW else "tuple"


class Loop(torch.nn.Module):
    """A hand-written decoder that passes (key, value) tuples, batch × tokens × heads × size."""

    def __init__(self, layers=LAYERS):
        super().__init__()
        self.embed = torch.nn.Embedding(64, KV_HEADS * HEAD)
        self.layers = layers

    def forward(self, tokens, past=None):
        new = self.embed(tokens).unflatten(-1, (KV_HEADS, HEAD))
        present = []
        for number in range(self.layers):
            old = past[number] if past is not None else (new[:, :0], new[:, :0])
            present.append(tuple(torch.cat([part, new], dim=1) for part in old))
        return new.sum((2, 3)), present
