"""Tiny models with random weights, one of each kind of cache, and what they must hold."""

from __future__ import annotations

import logging

import torch

BATCH, LAYERS, HEADS, KV_HEADS, HEAD = 2, 2, 4, 2, 8
FLOAT = 4


def quiet(transformers):
    """Its notes on what is not installed are no test's concern."""
    transformers.logging.set_verbosity_error()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return transformers


def decoder(transformers, name, **config):
    """A decoder of two layers with grouped heads."""
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
        **config,
    }
    kind = getattr(transformers, f"{name}Config")
    return getattr(transformers, f"{name}ForCausalLM")(kind(**values)).eval()


def gpt2(transformers):
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=64, n_embd=HEADS * HEAD, n_layer=LAYERS, n_head=HEADS,
            bos_token_id=1, eos_token_id=2,
        )
    ).eval()  # fmt: skip


def t5(transformers):
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=64, d_model=HEADS * HEAD, d_kv=HEAD, d_ff=16, num_layers=LAYERS,
            num_heads=HEADS, decoder_start_token_id=0,
        )
    ).eval()  # fmt: skip


def mamba(transformers):
    return transformers.MambaForCausalLM(
        transformers.MambaConfig(
            vocab_size=64, hidden_size=32, num_hidden_layers=LAYERS, state_size=4, conv_kernel=4,
            expand=2,
        )
    ).eval()  # fmt: skip


def ids(tokens):
    return torch.arange(BATCH * tokens).reshape(BATCH, tokens) % 60 + 3


def kv_bytes(tokens, heads=KV_HEADS, layers=LAYERS):
    """Keys and values of all layers."""
    return 2 * layers * BATCH * heads * tokens * HEAD * FLOAT
