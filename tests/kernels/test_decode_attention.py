"""Attention of a decode step: splits, what lies beyond a length, pages, and what is refused."""

import pytest
import torch

from warpspan.kernels.decode_attention import (
    decode_attention,
    paged_decode_attention,
    reference,
)


def inputs(generator, device, batch=2, heads=4, key_heads=2, capacity=200, width=16):
    q = torch.randn(batch, heads, width, generator=generator, device=device)
    k, v = (
        torch.randn(batch, key_heads, capacity, width, generator=generator, device=device)
        for _ in range(2)
    )
    return q, k, v


@pytest.mark.parametrize("splits", [1, 2, 3, 8])
def test_any_number_of_splits_gives_the_same(splits, device, generator):
    """Also where a sequence is shorter than its parts, so that some parts are empty."""
    q, k, v = inputs(generator, device)
    lengths = torch.tensor([200, 3], device=device)
    out = decode_attention(q, k, v, lengths, splits=splits)
    assert torch.allclose(reference(q, k, v, lengths), out, atol=1e-5)


def test_what_lies_beyond_a_length_is_never_seen(device, generator):
    """A cache is allocated empty: NaN behind the last token must not reach the output."""
    q, k, v = inputs(generator, device)
    lengths = torch.tensor([70, 129], device=device)
    expected = reference(q, k, v, lengths)
    for sequence, length in enumerate(lengths.tolist()):
        k[sequence, :, length:] = float("nan")
        v[sequence, :, length:] = float("nan")
    assert torch.allclose(expected, decode_attention(q, k, v, lengths), atol=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of the NaN that this is about
def test_an_empty_sequence_is_nan_and_others_are_not(device, generator):
    """A softmax over nothing is NaN, as in eager."""
    q, k, v = inputs(generator, device)
    out = decode_attention(q, k, v, torch.tensor([0, 5], device=device), splits=2)
    assert bool(out[0].isnan().all())
    assert bool(out[1].isfinite().all())


def test_pages_give_what_a_contiguous_cache_gives(device, generator):
    """Pages out of order, some never named by the table and full of NaN."""
    q, k, v = inputs(generator, device, capacity=96)
    lengths = torch.tensor([96, 50], device=device, dtype=torch.int32)
    order = torch.tensor([[5, 0, 7], [2, 6, 1]], device=device)
    pages = []
    for cache in (k, v):
        page = torch.full((8, 32, 2, 16), float("nan"), device=device)
        page[order] = cache.transpose(1, 2).unflatten(1, (3, 32))
        pages.append(page)
    expected = decode_attention(q, k, v, lengths)
    assert torch.equal(expected, paged_decode_attention(q, *pages, order, lengths))


def test_the_scale_is_the_callers(device, generator):
    """A scale of 0 averages the values."""
    q, k, v = inputs(generator, device)
    lengths = torch.tensor([10, 20], device=device)
    out = decode_attention(q, k, v, lengths, scale=0.0)
    assert torch.allclose(v[0, 0, :10].mean(0), out[0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("heads", "key_heads", "lengths", "sentence"),
    [
        (5, 2, torch.tensor([1, 1]), "5 query heads can't share 2 key heads"),
        (4, 2, torch.tensor([1]), "lengths must be 2"),
        (4, 2, torch.tensor([1.0, 1.0]), "lengths must be 2"),
    ],
)
def test_what_does_not_fit_is_told(heads, key_heads, lengths, sentence, device, generator):
    """One sentence says what was wrong and what fits."""
    q, k, v = inputs(generator, device, heads=heads, key_heads=key_heads)
    with pytest.raises(ValueError, match=sentence):
        decode_attention(q, k, v, lengths.to(device))
