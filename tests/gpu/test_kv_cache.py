"""On a real device: a KV cache is what its release gives back, and looking at it costs no wait."""

import gc

import pytest
import torch
from torch import nn

import warpspan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device"),
]

LAYERS, HEADS, HEAD = 4, 8, 64


class Decoder(nn.Module):
    """Passes (key, value) tuples; each token takes 1 KiB a tensor."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(64, HEADS * HEAD)

    def forward(self, tokens, past_key_values=None):
        new = self.embed(tokens).unflatten(-1, (HEADS, HEAD)).transpose(1, 2)
        layers = past_key_values or [(new[:, :, :0],) * 2] * LAYERS
        present = [tuple(torch.cat([part, new], 2) for part in layer) for layer in layers]
        return new.sum((1, 3)), present


@pytest.fixture
def model():
    return Decoder().cuda().half().eval()


def ids(tokens):
    return torch.zeros(1, tokens, dtype=torch.long, device="cuda")


def requested():
    """Bytes of live tensors, without what the allocator rounds up."""
    return torch.cuda.memory_stats()["requested_bytes.all.current"]


@torch.inference_mode()
def test_its_size_is_what_the_allocator_gets_back(telemetry, model):
    """To the byte, and at once: nobody else holds it."""
    output, past = model(ids(1024))
    output, past = model(ids(1024), past_key_values=past)
    cache = telemetry.records()[-1].cache
    assert (2 * LAYERS * 2048 * 1024, 2048, 1024) == (
        cache.size_bytes,
        cache.tokens,
        cache.token_increase,
    )
    limit = torch.cuda.get_device_properties(0).total_memory
    assert cache.size_bytes / limit == cache.utilization
    held = requested()
    gc.disable()
    try:
        del past
        assert cache.size_bytes == held - requested()
    finally:
        gc.enable()
    assert output is not None


@torch.inference_mode()
def test_nothing_waits_for_the_device(telemetry, model, no_waits):
    """torch raises at every wait that its operators make."""
    _, past = model(ids(8))
    tokens = ids(1)
    with no_waits():
        for _ in range(4):
            _, past = model(tokens, past_key_values=past)
        with warpspan.inference("chat"):
            for _ in range(4):
                _, past = model(tokens, past_key_values=past)
    assert [8, 9, 10, 11, 12, 16] == [record.cache.tokens for record in telemetry.records()]
