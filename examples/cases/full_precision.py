"""Weights of 32 bits that nearly fill the card, where 16 would do.

Cured, the model is loaded in half precision: half of the memory, and as many copies and reads less.
"""

from __future__ import annotations

import torch
from common import device, is_cured, serve
from torch import nn

CURED = is_cured(__doc__.splitlines()[0])
torch.manual_seed(7)
where = device()
total = torch.cuda.get_device_properties(where).total_memory if where.type == "cuda" else 2 << 30
width = 4096
# In 32 bits the weights take 90 % of the card.
count = int(0.9 * total / (width * width * 4))
dtype = torch.float16 if CURED else torch.float32
with torch.device(where):
    layers = [nn.Linear(width, width, bias=False, dtype=dtype) for _ in range(count)]
model = nn.Sequential(*layers).eval()


def answer(rows: int) -> torch.Tensor:
    """The output of as many rows."""
    with torch.inference_mode():
        return model(torch.zeros(rows, width, dtype=dtype, device=where))


serve(answer, [int(0.03 * total / (width * 4))] * 25)
