"""Calls modules eagerly while Dynamo looks at frames; prints, per way, what it compiled, and spans.

callback_active.py {never,after} DIRECTORY: whether warpspan is instrumented; where files may lie.
"""

import json
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch
import torch._dynamo
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

order, directory = sys.argv[1], Path(sys.argv[2])
exporter = None
if order != "never":
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    import warpspan

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    warpspan.WarpspanInstrumentor().instrument(tracer_provider=provider, training=True)

X = torch.ones(2, 4)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.linear(x))


class Hooked(Block):
    def __init__(self):
        super().__init__()
        self.linear.register_forward_hook(lambda module, args, output: output + 1)


@contextmanager
def unsupported():
    yield


def classes(count):
    """Models of classes with a code object each: Dynamo's limit is one a code object."""
    for number in range(count):
        scope = {"Block": Block, "torch": torch}
        exec(
            f"class Block{number}(Block):\n"
            "    def forward(self, x):\n"
            f"        return torch.relu(self.linear(x)) + {number}\n",
            scope,
        )
        yield scope[f"Block{number}"]().eval()


def break_in_a_with(backend):
    """The function runs as it is; each model's `forward` is compiled by itself."""
    models = list(classes(12))

    @torch.compile(backend=backend)
    def run(x):
        with unsupported():
            torch._dynamo.graph_break()
            for model in models:
                x = model(x)
        return x

    run(X)
    with torch.compiler.set_stance("fail_on_recompile") if NEW else unsupported():
        run(X)


def disabled_frame(backend):
    models = list(classes(12))

    @torch.compiler.disable(recursive=False)
    def inner(x):
        for model in models:
            x = model(x)
        return x

    @torch.compile(backend=backend)
    def run(x):
        return inner(x + 1) + 1

    run(X)
    run(X)


def checkpointed(backend):
    """Once for the forward pass and once for the backward one, which computes it anew."""
    if not NEW:  # it finds another number of tensors the second time
        return
    blocks = [torch.compile(block.train(), backend=backend) for block in classes(4)]
    for _ in range(2):
        x = X.clone().requires_grad_()
        for block in blocks:
            x = checkpoint(block, x, use_reentrant=False)
        x.sum().backward()


def hooks(backend):
    """Dynamo goes through torch's own call where a module has hooks."""
    model = torch.compile(Hooked().eval(), backend=backend, fullgraph=True)
    model(X)
    model(X)


def layers_in_place(backend):
    """A module of torch's own, compiled in place: Dynamo compiles the call itself."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    model.compile(backend=backend)
    model(X)
    model(X)


def dynamo_export(backend):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([Block(), Hooked()])

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    exported = torch._dynamo.export(Outer().eval())(X)
    notes["names"] = sorted(name for name, _ in exported.graph_module.named_parameters())
    notes["nodes"] = [node.name for node in exported.graph_module.graph.nodes]
    notes["guards"] = sorted(
        guard.name + guard.inner_create_fn().__name__ for guard in exported.guards
    )


def artefact(backend):
    """What is saved of a compiled forward: its size is that without warpspan."""
    if not NEW:
        return
    model = Hooked().eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    made = compiled.forward.aot_compile(((X,), {}))
    path = directory / f"artefact-{order}"
    made.save_compiled_function(path)
    notes["size"] = path.stat().st_size


NEW = hasattr(torch.compiler, "set_stance") and not torch.__version__.startswith("2.4")
result = {}
for way in (
    break_in_a_with,
    disabled_frame,
    checkpointed,
    hooks,
    layers_in_place,
    dynamo_export,
    artefact,
):
    torch._dynamo.reset()
    counters.clear()
    counter, notes = CompileCounter(), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        way(counter)
    spans = []
    if exporter is not None:
        assert warpspan.flush(30)
        spans = [span.name for span in exporter.get_finished_spans()]
        exporter.clear()
    result[way.__name__] = {
        "dynamo": {
            "graphs": counter.frame_count,
            "operators": counter.op_count,
            "frames": dict(counters["frames"]),
            "graph breaks": sum(counters["graph_break"].values()),
            "calls captured": counters["stats"]["calls_captured"],
            **notes,
        },
        "spans": spans,
    }
print(json.dumps(result))
