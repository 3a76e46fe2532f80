"""Models for a scripted device, and CUDA graphs of their calls."""

from __future__ import annotations

import torch
from torch import nn


class Encoder(nn.Linear):
    def __init__(self):
        super().__init__(4, 4, device="cuda")
        self.eval()


class Decoder(Encoder):
    pass


def batch():
    return torch.ones(2, 4, device="cuda")


def captured(function, *args, **options):
    """A graph of a call, and what the call gave."""
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph, **options):
        output = function(*args)
    return graph, output


def names(telemetry):
    return [(record.operation, record.model.name) for record in telemetry.records()]
