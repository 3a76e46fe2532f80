"""The decoder block: a prefill and decode steps after it agree with one long prefill."""

import torch

from warpspan.kernels.bench.ops import load
from warpspan.kernels.decoder_block import Cache, decoder_block


def test_a_token_decoded_is_a_token_prefilled(device, generator):
    """The cache written by a prefill serves the next step: the last output is the same."""
    op = load("decoder_block")
    sizes = {"B": 2, "T": 4, "S": 0, "H": 64, "I": 96, "Hq": 4, "Hk": 2, "D": 16}
    x, weights, cache, cos, sin = op.build(sizes, torch.float32, generator)
    whole = decoder_block(x, weights, cache, cos, sin)

    empty = Cache(torch.zeros_like(cache.keys), torch.zeros_like(cache.values), cache.lengths)
    decoder_block(x[:, :3], weights, empty, cos[:, :3], sin[:, :3])
    held = empty._replace(lengths=empty.lengths + 3)
    step = decoder_block(x[:, 3:], weights, held, cos[:, 3:], sin[:, 3:])
    assert torch.allclose(whole[:, 3:], step, atol=1e-4)
    assert torch.allclose(cache.keys, empty.keys, atol=1e-5)
