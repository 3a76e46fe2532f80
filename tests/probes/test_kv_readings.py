"""What is read of caches and tuples, whatever they are built of."""

import pytest
import torch

from warpspan.probes import kv_cache
from warpspan.probes.kv_cache import Reading


def test_shared_and_expanded_tensors_count_once():
    """What is held is storage, not shape."""
    key = torch.zeros(1, 2, 4, 8)
    shared = [(key, key), (key.expand(3, 2, 4, 8), key[:, :, :1])]
    reading = kv_cache.read(shared)
    assert (2 * 4 * 8 * 4, 2) == (reading.size, reading.layers)


def test_a_cache_that_is_built_differently_tells_less():
    """Never an error: what is not understood is not counted."""

    class StrangeCache:
        layers = "two"

        def __init__(self):
            self.blocks = {"a": [torch.zeros(2, 3)], "b": object(), "c": None}

    assert ("other", 24, None, None, None) == kv_cache.read(StrangeCache())[:5]
    assert ("other", 0, 0) == kv_cache.read(type("EmptyCache", (), {})())[:3]


def test_a_shell_of_quantized_tensors_counts_what_is_inside():
    """A tensor subclass without memory of its own names the tensors that it holds."""
    quantized = pytest.importorskip("torch.testing._internal.two_tensor").TwoTensor
    pair = quantized(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4))
    assert 2 * 2 * 4 * 4 == kv_cache.read([(pair, torch.zeros(0))]).size


def test_readings_are_of_what_is_held():
    """An empty reading holds nothing."""
    assert not Reading("dynamic", 0).held
