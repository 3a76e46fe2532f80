"""A loop that asks the GPU for a number in every step, and so waits for it in every step.

    warpspan run -- python examples/hidden_sync.py

Needs a GPU. The span says that `.item()` was called 37 times in one forward
(`pytorch.sync.counts`), how long the host stood still for it (`pytorch.sync.time`), and in which
line (`pytorch.sync.repeated.code.line.number`).
"""

from __future__ import annotations

import sys

import torch
from torch import nn


class Refiner(nn.Module):
    """Refines its state in 37 steps, or fewer where it hardly changes any more."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(256, 256)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        for _ in range(37):
            refined = torch.tanh(self.step(state))
            change = (refined - state).abs().max()
            state = refined
            if change.item() == 0:  # looks harmless, and waits for all that was launched
                break
        return state


if not torch.cuda.is_available():
    sys.exit("This example needs a GPU: torch sees no CUDA or ROCm device.")
torch.manual_seed(7)
model = Refiner().eval().cuda()
with torch.inference_mode():
    for _ in range(5):
        state = model(torch.randn(8, 256, device="cuda"))
print(f"norm of the last state: {state.norm().item():.2f}")
