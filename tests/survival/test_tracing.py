"""Whoever traces a model gets the graph that it gets without warpspan, and no span."""

from __future__ import annotations

import io

import pytest
import torch
from torch import fx, nn
from torch.func import functional_call, stack_module_state, vmap

# TorchScript is deprecated in newer versions of torch, and used all the same.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

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
        self.first = Block()
        self.second = Block()

    def forward(self, x):
        return self.second(self.first(x))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model().eval()


def names(telemetry):
    return [span["name"] for span in telemetry.inferences()]


def test_jit_trace(uninstrumented, model, expected):
    """The same graph; only the runs that check the result are calls. The traced model is one."""
    before = torch.jit.trace(model, X, check_trace=False)
    uninstrumented.instrument()
    traced = torch.jit.trace(model, X, check_trace=False)
    assert before.code == traced.code
    assert [] == names(uninstrumented)
    assert torch.equal(model(X), traced(X))
    assert [
        expected(model, (2, 4), first=True),
        expected(traced, (2, 4), name="Model"),
    ] == uninstrumented.inferences()


def test_jit_trace_checks_itself(telemetry, model):
    """With its check on, which runs the model again without tracing, it still does not warn."""
    torch.jit.trace(model, X)
    assert {"forward Model"} >= set(names(telemetry))


def test_jit_script(uninstrumented, model, expected):
    """Scripted before or after instrumenting: the same code, and each call is an inference."""
    before = torch.jit.script(model)
    uninstrumented.instrument()
    after = torch.jit.script(model)
    assert before.code == after.code
    assert torch.equal(before(X), after(X))
    assert [
        expected(before, (2, 4), name="Model", first=True),
        expected(after, (2, 4), name="Model"),
    ] == uninstrumented.inferences()


def test_scripted_model_saved_and_loaded(telemetry, model, expected):
    """It keeps its name."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(model), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    loaded(X)
    assert [expected(loaded, (2, 4), name="Model", first=True)] == telemetry.inferences()


def test_frozen_script_module(telemetry, model, expected):
    """Its weights are constants of the graph, and still its call is an inference."""
    frozen = torch.jit.freeze(torch.jit.script(model))
    assert [] == list(frozen.parameters())
    frozen(X)
    assert [expected(frozen, (2, 4), name="Model", first=True)] == telemetry.inferences()


def test_fx_symbolic_trace(uninstrumented, model, expected):
    """The same graph before and after; the graph module is a model of its own."""
    before = fx.symbolic_trace(model)
    uninstrumented.instrument()
    after = fx.symbolic_trace(model)
    assert [] == names(uninstrumented)
    assert before.code == after.code
    before(X)
    after(X)
    assert [
        expected(before, (2, 4), first=True),
        expected(after, (2, 4)),
    ] == uninstrumented.inferences()
    uninstrumented.uninstrument()
    assert before.code == fx.symbolic_trace(model).code


def test_fx_interpreter(telemetry, model):
    """It calls the leaf modules itself: each of them is an outermost call."""
    graph = fx.symbolic_trace(model)
    fx.Interpreter(graph).run(X)
    assert ["forward Linear", "forward Linear"] == names(telemetry)


def test_functional_call(telemetry, model, expected):
    """A call with other parameters is a call of the module, and leaves its parameters alone."""
    parameters = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    assert torch.equal(torch.zeros(2, 4), functional_call(model, parameters, X))
    model(X)
    assert [
        expected(model, (2, 4), first=True),
        expected(model, (2, 4)),
    ] == telemetry.inferences()


def test_vmap_over_inputs(telemetry, model, expected):
    """One call, with the shape that the module sees."""
    assert torch.allclose(model(torch.ones(5, 4)), vmap(model)(torch.ones(5, 4)))
    assert [
        expected(model, (5, 4), first=True),
        expected(model, (4,)),
    ] == telemetry.inferences()


def test_vmap_over_models(telemetry, expected):
    """An ensemble by stack_module_state is one call of its skeleton, without real parameters."""
    models = [Model().eval() for _ in range(3)]
    parameters, buffers = stack_module_state(models)

    def run(parameters, buffers, x):
        return functional_call(models[0], (parameters, buffers), (x,))

    outputs = vmap(run, (0, 0, None))(parameters, buffers, X)
    assert (3, 2, 4) == outputs.shape
    assert [expected(models[0], (2, 4), first=True)] == telemetry.inferences()


def test_func_grad(telemetry, model):
    """A gradient by torch.func is one call, as its forward is."""
    torch.func.grad(lambda x: model(x).sum())(X)
    assert ["forward Model"] == names(telemetry)


def test_meta_and_fake_tensors(telemetry, model):
    """Calls that only compute shapes run nothing and are no inferences."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.device("meta"):
        Model().eval()(torch.ones(2, 4))
    with FakeTensorMode():
        Model().eval()(torch.ones(2, 4))
    assert [] == names(telemetry)


def test_make_fx(uninstrumented, model):
    """The same graph; nothing of ours is in it."""
    from torch.fx.experimental.proxy_tensor import make_fx

    def run(parameters, x):
        return functional_call(model, parameters, x)

    def traced():
        return make_fx(run, tracing_mode="fake")(dict(model.named_parameters()), X).code

    before = traced()
    uninstrumented.instrument()
    assert before == traced()
    assert [] == names(uninstrumented)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_dynamically_quantized_model(telemetry, model, expected):
    """Its packed weights are no parameters; it is an inference and says what quantized it."""
    quantize_dynamic = pytest.importorskip("torch.ao.quantization").quantize_dynamic
    quantized = quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert [] == list(quantized.parameters())
    quantized(X)
    assert [
        expected(quantized, (2, 4), first=True, pytorch_model_quantization="torch.ao")
    ] == telemetry.inferences()
