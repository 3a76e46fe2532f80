"""Profiles a model before, under and after warpspan; prints the events of modules each time.

profiled_modules.py {on,off}: whether the first profile of the process is under warpspan.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.profiler import profile

import warpspan

X = torch.ones(2, 4)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x)


def modules():
    """The names of the events of modules."""
    with profile(
        with_stack=True, with_modules=True, profile_memory=True, record_shapes=True
    ) as run:
        model(X)
    with tempfile.TemporaryDirectory() as directory:
        trace = Path(directory, "trace.json")
        run.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    return sorted(event["name"] for event in events if event["name"].startswith("nn.Module: "))


model = Model().eval()
on = sys.argv[1] == "on"
result = []
for _ in range(3):
    if on:
        warpspan.WarpspanInstrumentor().instrument()
    else:
        warpspan.WarpspanInstrumentor().uninstrument()
    result.append(modules())
    on = not on
print(json.dumps(result))
