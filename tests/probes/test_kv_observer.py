"""When a cache that is an object is measured: once, at the end of the inference or as it dies."""

import weakref

import torch

import warpspan
from warpspan.probes import kv_cache


class ListCache:
    """Lists of keys and of values, as transformers had them before layers."""

    def __init__(self):
        self.key_cache, self.value_cache = [], []


class ListModel(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, past_key_values):
        for held in (past_key_values.key_cache, past_key_values.value_cache):
            held[:] = [torch.cat([*held, x], dim=-2)]
        return x * self.scale


def test_a_cache_without_layers_is_measured_when_it_dies(telemetry, monkeypatch):
    """Not at every step; and it dies when its owner lets go of it, its tensors with it."""
    read, reads = kv_cache.read, []
    monkeypatch.setattr(kv_cache, "read", lambda cache: reads.append(1) or read(cache))
    model = ListModel().eval()
    with warpspan.inference("chat"):
        cache = ListCache()
        for _ in range(6):
            model(torch.ones(2, 3, 1, 4), past_key_values=cache)
        key = weakref.ref(cache.key_cache[0])
        del cache
        assert key() is None
    (record,) = telemetry.records()
    assert (2 * 2 * 3 * 6 * 4 * 4, 6, 1, 0) == (
        record.cache.size_bytes,
        record.cache.tokens,
        record.cache.layers,
        record.cache.retained_bytes,
    )
    assert 2 == len(reads)  # when it was first seen, and after that call


def test_a_cache_without_layers_that_is_kept(telemetry):
    """It is measured at the end, whatever became of its lists; nothing of ours holds it then."""
    model, cache = ListModel().eval(), ListCache()
    with warpspan.inference("chat"):
        for _ in range(3):
            model(torch.ones(2, 3, 1, 4), past_key_values=cache)
        cache.key_cache = [key[..., :2, :] for key in cache.key_cache]
        cache.value_cache = []
    (record,) = telemetry.records()
    # A slice holds the storage of three tokens.
    assert (2 * 3 * 3 * 4 * 4, 2) == (record.cache.size_bytes, record.cache.tokens)
    assert record.cache.size_bytes == record.cache.retained_bytes
    gone = weakref.ref(cache)
    del cache
    assert gone() is None
