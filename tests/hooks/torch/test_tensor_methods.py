"""The patched methods of tensors, to everybody who must not notice them."""

from __future__ import annotations

import copy
import inspect
import operator
import pickle
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from warpspan import guard, instrumentor
from warpspan.testing import InMemoryTelemetry, ScriptedDevice

NAMES = (
    *("item", "tolist", "numpy", "nonzero", "cpu", "cuda", "to", "copy_", "pin_memory"),
    *("__bool__", "__int__", "__float__", "__index__", "__contains__"),
)
# TorchScript is deprecated in newer versions of torch, and used all the same.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def own():
    """What the class itself has, but for what pickle notes in it."""
    return {name: value for name, value in vars(torch.Tensor).items() if name != "__slotnames__"}


@pytest.fixture
def patched():
    """Tensors' methods as in a program that has initialised CUDA, which this machine has not."""
    guard.forget()
    before = own()
    with InMemoryTelemetry():
        instrumentor.active_session()._initialized._run()
        assert set(NAMES) <= vars(torch.Tensor).keys()
        yield
    assert before == own()
    assert {} == dict(guard.faults)


def test_a_program_without_cuda_is_left_alone():
    """Until CUDA is initialised no method is replaced, and nothing is left behind."""
    before = dict(vars(torch.Tensor))
    queued = list(torch.cuda._queued_calls)
    with InMemoryTelemetry():
        assert before == dict(vars(torch.Tensor))
    assert queued == torch.cuda._queued_calls


def test_they_are_replaced_when_cuda_is_initialised():
    """And put back: the class has what it had."""
    before = dict(vars(torch.Tensor))
    with ScriptedDevice():
        entered = dict(vars(torch.Tensor))
        with InMemoryTelemetry():
            assert entered == dict(vars(torch.Tensor))
            torch.zeros(1, device="cuda")
            assert set(NAMES) == {
                name for name, value in vars(torch.Tensor).items() if value is not entered.get(name)
            }
        assert entered == dict(vars(torch.Tensor))
    assert before == dict(vars(torch.Tensor))


def facts(name):
    """All that can be asked of a method."""
    method = getattr(torch.Tensor, name)
    try:
        signature = inspect.signature(method)
    except ValueError as error:
        signature = str(error)
    return (
        method,
        method.__name__,
        method.__qualname__,
        method.__doc__,
        signature,
        torch.overrides.resolve_name(method),
        method in torch.overrides.get_testing_overrides(),
        getattr(torch.Tensor, name) is getattr(nn.Parameter, name),
    )


ORIGINALS = {name: facts(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_class_has_the_originals(patched, name):
    """The very objects, with their names, signatures and places in torch's tables."""
    assert ORIGINALS[name] == facts(name)
    assert name == "__contains__" or getattr(torch.Tensor, name) is getattr(
        torch._C.TensorBase if hasattr(torch._C, "TensorBase") else torch._C._TensorBase, name
    )


@pytest.mark.parametrize("name", NAMES)
def test_bound_methods(patched, name):
    """They keep their names and their tensor, and are pickled."""
    x = torch.ones(2)
    bound = getattr(x, name)
    assert (name, x.tolist()) == (bound.__name__, bound.__self__.tolist())
    again = pickle.loads(pickle.dumps(bound))
    assert (name, [1.0, 1.0]) == (again.__name__, again.__self__.tolist())
    assert torch.equal(x, copy.deepcopy(x))


def calls():
    """One call of each method, by what it is given."""
    return {
        "item": lambda x: x[0].item(),
        "tolist": lambda x: x.tolist(),
        "numpy": lambda x: x.numpy(),
        "nonzero": lambda x: x.nonzero(),
        "nonzero as tuple": lambda x: x.nonzero(as_tuple=True),
        "cpu": lambda x: x.cpu(),
        "cpu by name": lambda x: x.cpu(memory_format=torch.preserve_format),
        "to dtype": lambda x: x.to(torch.float64),
        "to device": lambda x: x.to("cpu"),
        "to both": lambda x: x.to("cpu", torch.int32, copy=True),
        "to other": lambda x: x.to(torch.ones(1, dtype=torch.int64)),
        "to other by name": lambda x: x.to(other=torch.ones(1, dtype=torch.int64)),
        "to meta": lambda x: x.to("meta"),
        "copy_": lambda x: torch.empty_like(x).copy_(x),
        "copy_ by name": lambda x: torch.empty_like(x).copy_(src=x, non_blocking=True),
        "bool": lambda x: bool(x[0]),
        "int": lambda x: int(x[0]),
        "float": lambda x: float(x[0]),
        "index": lambda x: operator.index(x[0].to(torch.int64)),
        "contains": lambda x: 1.0 in x,
        # Errors. (Python 3.10 names the class otherwise where `item` is given a name.)
        "item of many": lambda x: x.item(),
        "item with an argument": lambda x: x[0].item(1),
        "bool of many": lambda x: bool(x),
        "index of a float": lambda x: operator.index(x[0]),
        "to nowhere": lambda x: x.to("nowhere"),
        "to nothing": lambda x: x.to(),
        "to a list": lambda x: x.to([1]),
        "to too much": lambda x: x.to("cpu", speed=1),
        "copy_ of nothing": lambda x: x.copy_(),
        "copy_ of a string": lambda x: x.copy_("x"),
        "copy_ of another shape": lambda x: x.copy_(torch.ones(7)),
        "cpu with an argument": lambda x: x.cpu("fast"),
        "cuda nowhere": lambda x: x.cuda("nowhere"),
        "contains a string": lambda x: "x" in x,
        "a class's method": lambda x: torch.Tensor.item(5),
        "meta item": lambda x: x.to("meta")[0].item(),
        "requires grad numpy": lambda x: x.clone().requires_grad_().numpy(),
    }


def outcome(call, make):
    """What a call gives: type, values and layout, or the error's class and message."""
    try:
        result = call(make())
    except Exception as error:
        return type(error).__name__, str(error)
    return type(result).__name__, repr(result)


KINDS = {
    "plain": lambda: torch.tensor([1.0, 0.0, 2.0]),
    "parameter": lambda: nn.Parameter(torch.tensor([1.0, 0.0, 2.0]), requires_grad=False),
    "subclass": lambda: torch.tensor([1.0, 0.0, 2.0]).as_subclass(Sub),
    "sparse": lambda: torch.tensor([1.0, 0.0, 2.0]).to_sparse(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "quantized": lambda: torch.quantize_per_tensor(
        torch.tensor([1.0, 0.0, 2.0]), 0.1, 0, torch.quint8
    ),
    "empty": lambda: torch.empty(0),
}


class Sub(torch.Tensor):
    """A subclass that handles nothing by itself."""


def outcomes(kind):
    return {name: outcome(call, KINDS[kind]) for name, call in calls().items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_results_and_errors(request, kind):
    """Of each kind of tensor, to the letter."""
    before = outcomes(kind)
    request.getfixturevalue("patched")
    assert before == outcomes(kind)


class Seen(torch.Tensor):
    """Notes each function of torch that meets it."""

    log: ClassVar[list] = []

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.log.append(function)
        return super().__torch_function__(function, types, args, kwargs or {})


class SeenMode(TorchFunctionMode):
    """Notes each function of torch."""

    def __init__(self):
        super().__init__()
        self.log = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.log.append(function)
        return function(*args, **(kwargs or {}))


class SeenOperators(TorchDispatchMode):
    """Notes each operator."""

    def __init__(self):
        super().__init__()
        self.log = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.log.append(str(function))
        return function(*args, **(kwargs or {}))


def functions_seen(kind):
    """What an override, or a mode, is told of the calls."""
    Seen.log = []
    if kind == "subclass":
        for call in calls().values():
            outcome(call, lambda: torch.tensor([1.0, 0.0, 2.0]).as_subclass(Seen))
        for call in (
            lambda x: torch.empty(3).copy_(x.as_subclass(Seen)),
            lambda x: x.to(x.as_subclass(Seen)),
        ):
            outcome(call, lambda: torch.ones(3))
        return list(Seen.log)
    with SeenMode() if kind == "mode" else SeenOperators() as mode:
        for call in calls().values():
            outcome(call, KINDS["plain"])
    return mode.log


@pytest.mark.parametrize("kind", ["subclass", "mode", "operators"])
@pytest.mark.filterwarnings("ignore")
def test_overrides_see_what_they_saw(request, kind):
    """The same functions, the very objects, in the same order."""
    before = functions_seen(kind)
    request.getfixturevalue("patched")
    assert before == functions_seen(kind)


def test_a_lazy_module_is_moved(patched):
    """torch's own list of functions that may meet uninitialised parameters is one of originals."""
    assert "cpu" == nn.LazyLinear(3).to("cpu").weight.device.type


def test_functions_that_transform(patched):
    """vmap, grad and functionalization."""
    x = torch.ones(3, 2)
    assert torch.equal(x.double(), torch.vmap(lambda row: row.to(torch.float64))(x))
    assert torch.equal(x, torch.vmap(lambda row: row.clone().copy_(row).cpu())(x))
    assert torch.equal(x, torch.func.grad(lambda x: x.to("cpu").sum())(x))
    assert torch.equal(x, torch.func.functionalize(lambda x: x.clone().copy_(x))(x))
    with pytest.raises(RuntimeError, match="vmap"):
        torch.vmap(lambda row: row.sum().item())(x)


def test_fake_tensors(patched):
    """Those of a device that is not there, too; no wait is one."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = torch.empty(3, device="cuda:0")
        assert "cpu" == fake.cpu().device.type
        assert "cuda" == fake.to("cuda:0").device.type
        assert (3,) == torch.empty(3).to("cuda:0").shape
        # torch 2.4 asks the driver instead.
        with pytest.raises((DataDependentOutputException, RuntimeError)):
            fake[0].item()
    assert "cpu" == fake.cpu().device.type


def moves(x):
    y = x.to(torch.float64).cpu().to("cpu")
    return torch.empty_like(y).copy_(y).to(x) + torch.Tensor.to(x, torch.float32)


def guards_of(function):
    """Graphs, and guards of each, that Dynamo makes of a function."""
    torch._dynamo.reset()
    graphs, guards = [], []

    def backend(graph, inputs):
        graphs.append(graph.code)
        return graph.forward

    compiled = torch._dynamo.optimize(backend, nopython=True, guard_fail_fn=None)(function)
    explained = compiled(torch.ones(3))
    guards.append(explained.tolist())
    return graphs, guards


@pytest.mark.filterwarnings("ignore")
def test_dynamo(request):
    """One graph under `fullgraph`, the same one, without a break; and no recompilation."""
    before = guards_of(moves)
    request.getfixturevalue("patched")
    assert before == guards_of(moves)
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(moves, backend=counter, fullgraph=True)
    for _ in range(3):
        compiled(torch.ones(3))
    assert 1 == counter.frame_count
    torch._dynamo.reset()


class Moves(nn.Module):
    def forward(self, x):
        return x.to(torch.float64).cpu().to(x)


@pytest.mark.filterwarnings("ignore")
def test_exported_and_scripted_code(request):
    """The same graphs."""

    def code():
        module, x = Moves(), torch.ones(3)
        return (
            str(torch.export.export(module, (x,)).graph),
            torch.jit.script(module).code,
            torch.jit.trace(module, x).code,
            torch.fx.symbolic_trace(module).code,
        )

    before = code()
    request.getfixturevalue("patched")
    assert before == code()


def test_somebody_who_patched_over_us(patched):
    """Their patch stays and ours underneath does nothing any more."""
    ours = vars(torch.Tensor)["item"]

    def theirs(self):
        return ours.__get__(self, type(self))()

    torch.Tensor.item = theirs
    try:
        instrumentor.active_session().remove()
        assert vars(torch.Tensor)["item"] is theirs
        assert 3.0 == torch.tensor(3.0).item()
    finally:
        del torch.Tensor.item


def test_somebody_who_patched_before_us():
    """Their patch is called by ours, and is what comes back."""
    original, seen = torch.Tensor.item, []

    def theirs(self):
        seen.append(1)
        return original(self)

    torch.Tensor.item = theirs
    try:
        with InMemoryTelemetry():
            instrumentor.active_session()._initialized._run()
            assert torch.Tensor.item is theirs
            assert 3.0 == torch.tensor(3.0).item()
        assert vars(torch.Tensor)["item"] is theirs
    finally:
        del torch.Tensor.item
    assert [1] == seen
    assert torch.Tensor.item is original


def test_a_default_device_is_a_mode_and_waits_are_seen():
    """`torch.set_default_device("cuda")` puts every call under a function mode."""
    with ScriptedDevice() as device, InMemoryTelemetry() as telemetry:
        model = nn.Linear(2, 2).eval().cuda()
        with torch.device("cuda"), torch.inference_mode():
            model.register_forward_hook(lambda *args: args[-1].sum().item())
            model(torch.ones(1, 2))
        (record,) = telemetry.records()
        del model
        assert ("item", 1) == record.syncs.kinds[0][:2]
        assert 1 == record.transfers.d2h.total
        assert device.calls
