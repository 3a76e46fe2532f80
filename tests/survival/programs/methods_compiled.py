"""Functions that copy and read tensors, compiled, exported, scripted and traced, as JSON.

methods_compiled.py {never,after}: whether warpspan patches torch, before Dynamo is imported.
"""

import json
import logging
import sys
import warnings

import torch

if sys.argv[1] != "never":
    import warpspan
    from warpspan import instrumentor

    warpspan.WarpspanInstrumentor().instrument()
    instrumentor.active_session()._patch_tensors()  # as when CUDA is initialised

import torch._dynamo
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters
from torch.fx.experimental.proxy_tensor import make_fx

warnings.simplefilter("ignore")
logging.disable()  # what Dynamo says of graph breaks
X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def moves(x):
    return x.to(torch.float64).cpu().to("cpu", torch.float32, non_blocking=True) + 1


def copies(x):
    y = torch.zeros_like(x)
    y.copy_(x, non_blocking=True)
    return y + 1


def reads(x):
    return x * x.sum().item()


def branches(x):
    if x.sum() > 0:
        return x + 1
    return x - 1


def numbers(x):
    return x * float(x[0, 0]) + int(x[0, 1])


def counts(x):
    return x[x.nonzero(as_tuple=True)] + 1


def contains(x):
    return x + (2.0 in x)


def synchronizes(x):
    y = x + 1
    torch.cuda.is_initialized() and torch.cuda.synchronize()
    return y * 2


FUNCTIONS = (moves, copies, reads, branches, numbers, counts, contains, synchronizes)


class Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def outcome(call):
    try:
        result = call()
    except Exception as error:
        return type(error).__name__
    return result.tolist() if isinstance(result, torch.Tensor) else result


def named(target):
    return getattr(target, "__name__", str(target))


def compiled(function, **options):
    torch._dynamo.reset()
    counters.clear()
    backend = CompileCounter()
    run = torch.compile(function, backend=backend, **options)
    result = [outcome(lambda: run(X)) for _ in range(2)]
    return {
        "result": result,
        "graphs": backend.frame_count,
        "operators": backend.op_count,
        "frames": dict(counters["frames"]),
        "breaks": sum(counters["graph_break"].values()),
        "calls": counters["stats"]["calls_captured"],
    }


def exported(function):
    torch._dynamo.reset()
    program = torch.export.export(Module(function), (X,), strict=True)
    return [named(node.target) for node in program.graph.nodes]


def traced(function):
    graph = torch.jit.trace(function, (X,), check_trace=False)
    return [node.kind() for node in graph.graph.nodes()] + graph(X).tolist()


def scripted(function):
    graph = torch.jit.script(function)
    return [node.kind() for node in graph.graph.nodes()] + graph(X).tolist()


def symbolic(function):
    return [named(node.target) for node in torch.fx.symbolic_trace(function).graph.nodes]


def proxied(function):
    return [named(node.target) for node in make_fx(function)(X).graph.nodes]


result = {}
for function in FUNCTIONS:
    result[function.__name__] = {
        "compiled": compiled(function),
        "whole": compiled(function, fullgraph=True),
        **{
            way.__name__: outcome(lambda: way(function))  # noqa: B023
            for way in (exported, traced, scripted, symbolic, proxied)
        },
    }
with torch._dynamo.config.patch(capture_scalar_outputs=True, capture_dynamic_output_shape_ops=True):
    result["reads"]["with scalars"] = compiled(reads, fullgraph=True)
    result["counts"]["with shapes"] = compiled(counts, fullgraph=True)
print(json.dumps(result))
