"""A DistributedDataParallel model on gloo, in one process and in two; each prints its spans."""

import json
import multiprocessing
import os
import sys
import tempfile

import torch
import torch._dynamo  # here, not in each child: DistributedDataParallel needs it
import torch.distributed as dist
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import warpspan


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x)


def work(rank, world, store):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    warpspan.WarpspanInstrumentor().instrument(tracer_provider=provider)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    torch.manual_seed(0)
    model = DistributedDataParallel(Model())
    model(torch.ones(2, 4) * (rank + 1)).sum().backward()
    mean = sum(2.0 * (rank + 1) for rank in range(world)) / world
    gradients = torch.allclose(model.module.linear.weight.grad, torch.full((4, 4), mean))
    model.eval()
    with torch.no_grad():
        model(torch.ones(2, 4))
        model(torch.ones(2, 4))
    warpspan.flush(30)
    spans = [
        [
            span.name,
            span.attributes["pytorch.model.compiled"],
            span.attributes["pytorch.input.batch.size"],
        ]
        for span in exporter.get_finished_spans()
    ]
    line = {"world": world, "rank": rank, "gradients": gradients, "spans": spans}
    os.write(1, (json.dumps(line) + "\n").encode())
    dist.destroy_process_group()


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        for world in (1, 2):
            workers = [
                fork.Process(target=work, args=(rank, world, f"{folder}/{world}"))
                for rank in range(world)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
    sys.exit(max(worker.exitcode for worker in workers))
