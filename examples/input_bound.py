"""An inference that waits for its input: batches copied from ordinary host memory.

    warpspan run -- python examples/input_bound.py

Needs a GPU. The span says what holds the model back: `pytorch.transfer.h2d.device.share` is above 1
(the copy of the input takes longer than the model), `pytorch.transfer.h2d.pageable.size` is all of
it, and `pytorch.sync.time` is what the caller waited for it. With `--pinned` the copy is faster
and nobody waits for it.
"""

from __future__ import annotations

import sys

import torch
from torch import nn


class Scorer(nn.Sequential):
    """One number for each row."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 1))


if not torch.cuda.is_available():
    sys.exit("This example needs a GPU: torch sees no CUDA or ROCm device.")
pinned = "--pinned" in sys.argv[1:]
torch.manual_seed(7)
model = Scorer().eval().cuda()
batch = torch.randn(8192, 1024)  # 32 MiB
if pinned:
    batch = batch.pin_memory()
with torch.inference_mode():
    for _ in range(10):
        scores = model(batch.to("cuda", non_blocking=pinned))
print(f"best row: {int(scores.argmax())}")
