"""accelerate: a whole model whose weights stay on the host, or on disk, between its calls."""

import sys
import tempfile

import torch
from accelerate import cpu_offload, disk_offload

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
with tempfile.TemporaryDirectory() as folder, torch.no_grad():
    if sys.argv[1] == "cpu":
        cpu_offload(model, execution_device=torch.device("cpu"))
    else:
        disk_offload(model, folder, execution_device=torch.device("cpu"))
    for batch in (1, 3):
        print(tuple(model(torch.ones(batch, 4)).shape))
