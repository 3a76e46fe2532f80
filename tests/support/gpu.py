"""Models and tensors for a scripted device."""

from __future__ import annotations

import torch
from torch import nn

MIB = 1 << 20
GB_S = 1e9
KERNEL_S = 0.010


class Runs(nn.Module):
    """Launches a kernel, then does what it is given."""

    def __init__(self, device, length_s=KERNEL_S, where="cuda:0"):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, device=where), requires_grad=False)
        self.device, self.length_s = device, length_s
        self.eval()

    def forward(self, action=lambda: None):
        self.device.launch(self.length_s)
        return action()


def host(mib=1, *, pinned=False, dtype=torch.uint8):
    """A tensor in host memory."""
    made = torch.zeros(mib * MIB // torch.empty(0, dtype=dtype).element_size(), dtype=dtype)
    return made.pin_memory() if pinned else made


def on_card(mib=1, index=0, dtype=torch.uint8):
    """A tensor on a card, made there."""
    elements = mib * MIB // torch.empty(0, dtype=dtype).element_size()
    return torch.zeros(elements, device=f"cuda:{index}", dtype=dtype)
