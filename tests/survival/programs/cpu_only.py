"""Inferences on a machine without a GPU."""

import sys
import threading

import torch

import warpspan

warpspan.WarpspanInstrumentor().instrument()
model = torch.nn.Linear(2, 2).eval()
with torch.inference_mode():
    for _ in range(3):
        model(torch.ones(1, 2))
print(
    warpspan.flush(30),
    [name for name in sys.modules if name.startswith("warpspan.device")],
    [one.name for one in threading.enumerate() if one.name == "warpspan-sampler"],
)
