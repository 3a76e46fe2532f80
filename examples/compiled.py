"""Scores candidates with a torch.compile'd model. Nothing here knows of telemetry.

    warpspan run -- python examples/compiled.py

The default backend needs a C++ compiler on a machine without a GPU; `--backend aot_eager` does not.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn


class Ranker(nn.Module):
    """A two-tower ranker's head: one query against many candidates."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.candidate = nn.Linear(width, width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, query: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        return self.mix(torch.tanh(self.query(query) * self.candidate(candidates))).squeeze(-1)


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backend", default="inductor")
options = parser.parse_args()

torch.manual_seed(7)
device = "cuda" if torch.cuda.is_available() else "cpu"
model = torch.compile(Ranker().eval().to(device), backend=options.backend, dynamic=True)
with torch.inference_mode():
    query = torch.randn(1, 256, device=device)
    for count in (16, 64, 256, 1024) * 10:
        scores = model(query, torch.randn(count, 256, device=device))
print(f"best of the last {len(scores)} candidates: {int(scores.argmax())}")
