"""A tokenizer on the CPU before a model on the GPU: the GPU waits for the next batch.

The article's second case. The tokenizer walks through every character in Python while the GPU has
nothing to do. Cured, the bytes go to the GPU as they are, and become token ids there.
"""

from __future__ import annotations

import torch
from common import device, is_cured, serve
from torch import nn

CURED = is_cured(__doc__.splitlines()[0])
LENGTH, BATCH = 512, 32
torch.manual_seed(7)


class Classifier(nn.Module):
    """A label for each text."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, 512)
        layer = nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.label = nn.Linear(512, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.label(self.encoder(self.embedding(ids)).mean(1))


model = Classifier().eval().to(device())


def tokenize(texts: list[str]) -> torch.Tensor:
    """A token for each character, found one by one."""
    ids = torch.zeros(len(texts), LENGTH, dtype=torch.long)
    for row, text in enumerate(texts):
        for column, character in enumerate(text[:LENGTH]):
            ids[row, column] = min(ord(character.lower()), 255)
    return ids.to(device())


def tokenize_on_device(texts: list[str]) -> torch.Tensor:
    """A token for each byte, on the device."""
    raw = b"".join(
        text.encode("latin-1", "replace")[:LENGTH].ljust(LENGTH, b"\0") for text in texts
    )
    ids = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(len(texts), LENGTH)
    ids = ids.to(device()).long()
    return torch.where((ids >= 65) & (ids <= 90), ids + 32, ids)


def answer(texts: list[str]) -> torch.Tensor:
    """The labels of a batch."""
    ids = tokenize_on_device(texts) if CURED else tokenize(texts)
    with torch.inference_mode():
        return model(ids).argmax(-1).cpu()


TEXTS = ["The parcel has not arrived, and nobody answers the telephone. " * 8] * BATCH
serve(answer, [TEXTS] * 30)
