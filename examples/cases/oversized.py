"""A small model alone on a large card: most of the memory and of the multiprocessors are idle.

The cure is no change of the program: the report names the share of the card that would do. Run it
on such a share (a MIG instance, or a smaller card) and compare. With `--cured` the program shows
the other way: four models share the card.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from common import device, is_cured, serve
from torch import nn

MODELS = 4 if is_cured(__doc__.splitlines()[0]) else 1
torch.manual_seed(7)


class Scorer(nn.Sequential):
    """One number for each row."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1))


models = [Scorer().eval().to(device()) for _ in range(MODELS)]


def work(model: Scorer) -> None:
    """Answer requests with one of the models."""

    def answer(rows: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return model(rows.to(device())).cpu()

    serve(answer, (torch.randn(64, 512) for _ in range(120)))


with ThreadPoolExecutor(MODELS) as threads:
    list(threads.map(work, models))
