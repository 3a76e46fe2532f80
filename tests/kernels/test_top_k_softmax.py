"""Top-k of logits for sampling: ties, order, chunks, and what is refused."""

import pytest
import torch

from warpspan.kernels.top_k_softmax import CHUNK, top_k_softmax


def test_of_equal_logits_the_lowest_ids_are_taken(device):
    """Ties are broken by id, within a chunk and across chunks, so that runs repeat."""
    logits = torch.zeros(2, CHUNK + 40, device=device)
    logits[1, 7] = 1.0
    _, ids = top_k_softmax(logits, 5)
    assert [[0, 1, 2, 3, 4], [7, 0, 1, 2, 3]] == ids.tolist()


def test_winners_may_all_lie_in_one_chunk(device, generator):
    """The last chunk, which the vocabulary does not fill, holds all of them, in falling order."""
    logits = torch.randn(1, CHUNK + 64, generator=generator, device=device)
    logits[0, CHUNK:] += 100
    probabilities, ids = top_k_softmax(logits, 64, temperature=2.0)
    values, expected = torch.topk(logits / 2.0, 64)
    assert expected.tolist() == ids.tolist()
    assert torch.allclose(torch.softmax(values, -1), probabilities, rtol=1e-5)


def test_negative_logits_are_ordered_too(device):
    """Below zero the bits of a float fall as its value rises."""
    logits = -torch.arange(1.0, 50.0, device=device)[None]
    assert [0, 1, 2] == top_k_softmax(logits, 3)[1][0].tolist()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of the NaN that this is about
def test_nan_of_either_sign_is_chosen_first(device):
    """As torch.topk has it; the probabilities are NaN then, so that it is not lost."""
    logits = torch.tensor([[1.0, -float("nan"), float("inf"), 3.0]], device=device)
    probabilities, ids = top_k_softmax(logits, 2)
    assert [1, 2] == ids[0].tolist()
    assert bool(probabilities.isnan().all())


@pytest.mark.parametrize(
    ("k", "temperature", "sentence"),
    [
        (0, 1.0, "between 1 and 9"),
        (10, 1.0, "between 1 and 9"),
        (3, 0.0, "above 0, not 0.0; take torch.argmax"),
        (3, float("nan"), "above 0, not nan"),
    ],
)
def test_what_does_not_fit_is_told(k, temperature, sentence, device):
    """One sentence says what was wrong and what fits."""
    with pytest.raises(ValueError, match=sentence):
        top_k_softmax(torch.zeros(2, 9, device=device), k, temperature)
