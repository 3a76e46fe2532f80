"""A program that knows nothing of telemetry."""

import sys

import torch

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()).eval()
with torch.no_grad():
    print(tuple(model(torch.ones(2, 4)).shape))
sys.exit(5)
