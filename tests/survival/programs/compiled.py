"""Compiles models in many ways; prints, per way, what Dynamo did and which spans there were.

compiled.py {never,before,after}: when warpspan patches torch, as seen from the import of Dynamo.
"""

import json
import sys
import warnings

import torch
from torch import nn

order = sys.argv[1]
if order == "before":
    import torch._dynamo
exporter = provider = None


def switch(on):
    """Instrument or uninstrument, in the runs that do so at all."""
    if provider is not None and on:
        warpspan.WarpspanInstrumentor().instrument(tracer_provider=provider)
    elif provider is not None:
        warpspan.WarpspanInstrumentor().uninstrument()


if order != "never":
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    import warpspan

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    switch(on=True)

assert ("torch._dynamo" in sys.modules) == (order == "before")
import torch._dynamo  # noqa: E402 - after the patch, if that is the order
from torch._dynamo.testing import CompileCounter  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402

X = torch.ones(2, 4)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.linear(x))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Breaks(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, x):
        x = self.block(x)
        torch._dynamo.graph_break()
        return self.block(x)


def default(backend):
    model = torch.compile(Model().eval(), backend=backend)
    for size in (2, 2, 5, 7):
        model(torch.ones(size, 4))


def fullgraph(backend):
    model = torch.compile(Model().eval(), backend=backend, fullgraph=True)
    model(X)
    model(X)


def dynamic(backend):
    model = torch.compile(Model().eval(), backend=backend, dynamic=True)
    for size in (2, 5, 7):
        model(torch.ones(size, 4))


def graph_break(backend):
    model = torch.compile(Breaks().eval(), backend=backend)
    model(X)
    model(X)


def in_place(backend):
    model = Model().eval()
    model(X)
    model.compile(backend=backend, fullgraph=True)
    model(X)
    model(X)


def function(backend):
    model = Model().eval()

    @torch.compile(backend=backend, fullgraph=True)
    def run(x):
        return model(x) + 1

    run(X)
    run(X)


def submodule(backend):
    model = Model().eval()
    model.blocks[1] = torch.compile(model.blocks[1], backend=backend, fullgraph=True)
    model(X)
    model(X)


def hooked(backend):
    model = Model().eval()
    model.blocks[0].register_forward_hook(lambda module, args, output: output + 1)
    model = torch.compile(model, backend=backend, fullgraph=True)
    model(X)
    model(X)


def grad_modes(backend):
    model = torch.compile(Model().eval(), backend=backend, fullgraph=True)
    model(X)
    with torch.no_grad():
        model(X)
    with torch.inference_mode():
        model(X)


def training(backend):
    model = torch.compile(Model(), backend=backend, fullgraph=True)
    model(X).sum().backward()
    model(X).sum().backward()


def twelve_models():
    """Of classes with a code object each: Dynamo's limit of graphs is one a code object."""
    for number in range(12):
        scope = {"Model": Model}
        exec(
            f"class Model{number}(Model):\n"
            "    def forward(self, x):\n"
            "        for block in self.blocks:\n"
            "            x = block(x)\n"
            f"        return x + {number}\n",
            scope,
        )
        yield scope[f"Model{number}"]().eval()


def twelve_classes(backend):
    for model in twelve_models():
        model = torch.compile(model, backend=backend, fullgraph=True)
        model(X)
        model(X)


def twelve_in_place(backend):
    for model in twelve_models():
        model.compile(backend=backend, fullgraph=True)
        model(X)
        model(X)


def switched(backend):
    """Compiled while it is not instrumented, called while it is, and again while it is not."""
    switch(on=False)
    models = [torch.compile(Model().eval(), backend=backend, fullgraph=True), Model().eval()]
    models[1].compile(backend=backend, fullgraph=True)
    for on in (True, False, True):
        for model in models:
            model(X)
        switch(on)
    for model in models:
        model(X)


def exported(backend):
    model = Model().eval()
    for strict in (True, False):
        program = torch.export.export(model, (X,), strict=strict)
        backend.op_count += len(program.graph.nodes)
        assert torch.equal(model(X), program.module()(X))
        with torch.no_grad():
            program.module()(X)


result = {}
for way in (
    default,
    fullgraph,
    dynamic,
    graph_break,
    in_place,
    function,
    submodule,
    hooked,
    grad_modes,
    training,
    twelve_classes,
    twelve_in_place,
    switched,
    exported,
):
    torch._dynamo.reset()
    counters.clear()
    counter = CompileCounter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        way(counter)
    spans = []
    if exporter is not None:
        assert warpspan.flush(30)
        spans = [
            (span.name, span.attributes["pytorch.model.compiled"])
            for span in exporter.get_finished_spans()
        ]
        exporter.clear()
    result[way.__name__] = {
        "dynamo": {
            "graphs": counter.frame_count,
            "operators": counter.op_count,
            "frames": dict(counters["frames"]),
            "graph breaks": sum(counters["graph_break"].values()),
            "calls captured": counters["stats"]["calls_captured"],
        },
        "spans": spans,
    }
print(json.dumps(result))
