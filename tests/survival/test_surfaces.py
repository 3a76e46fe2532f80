"""Methods that copy, move and read tensors do with us what they do without us, for every kind."""

import copy
import inspect
import logging
import operator
import pickle
import threading
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import warpspan
from warpspan import instrumentor
from warpspan.testing import ScriptedDevice

METHODS = (
    *("item", "cpu", "tolist", "numpy", "nonzero", "to", "cuda", "copy_", "pin_memory"),
    *("__bool__", "__int__", "__float__", "__index__", "__array__", "__contains__"),
    *("type", "double", "half", "clone", "detach"),
)
FUNCTIONS = {
    "synchronize": (torch.cuda, "synchronize"),
    "Stream.synchronize": (torch.cuda.Stream, "synchronize"),
    "Event.synchronize": (torch.cuda.Event, "synchronize"),
    "Module.to": (nn.Module, "to"),
    "Module.cuda": (nn.Module, "cuda"),
    "Module.cpu": (nn.Module, "cpu"),
    "accelerator": (getattr(torch, "accelerator", torch.cuda), "synchronize"),
    "nonzero": (torch, "nonzero"),
}
# Before anything is instrumented: what users may have kept, and key their own tables by.
ORIGINALS = {name: getattr(torch.Tensor, name) for name in METHODS}
NAMES = {function: name for name, function in ORIGINALS.items()}


class Plain(torch.Tensor):
    """A subclass that overrides nothing."""


class Overriding(torch.Tensor):
    """Notes what it is asked for, and knows torch's functions by what they are."""

    log: ClassVar = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.log.append(NAMES.get(func, getattr(func, "__name__", repr(func))))
        return super().__torch_function__(func, types, args, kwargs)


class Handling(torch.Tensor):
    """Answers some functions itself, found as users find them."""

    handlers: ClassVar = {
        ORIGINALS["item"]: lambda tensor: "answered",
        ORIGINALS["cpu"]: lambda tensor: 17,
    }

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in cls.handlers:
            return cls.handlers[func](*args)
        return super().__torch_function__(func, types, args, kwargs)


class Wrapping:
    """No tensor at all, but something that overrides."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return NAMES.get(func, getattr(func, "__name__", None)), len(args)


def quantized():
    return torch.quantize_per_tensor(torch.tensor([1.0, 2.0]), 0.5, 0, torch.quint8)


def inference():
    with torch.inference_mode():
        return torch.tensor([2.0])


def nested():
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def jagged():
    parts = [torch.ones(2, 2), torch.ones(3, 2)]
    return torch.nested.nested_tensor(parts, layout=torch.jagged)


def fake(values):
    return FakeTensorMode().from_tensor(values)


KINDS = {
    "float": lambda: torch.tensor(2.0),
    "int": lambda: torch.tensor([3]),
    "bool": lambda: torch.tensor(True),
    "complex": lambda: torch.tensor(1 + 2j),
    "conjugate": lambda: torch.tensor([1 + 2j]).conj(),
    "bfloat16": lambda: torch.tensor(2.0, dtype=torch.bfloat16),
    "vector": lambda: torch.tensor([1.0, 0.0, 2.0]),
    "matrix": lambda: torch.arange(6.0).reshape(2, 3),
    "transposed": lambda: torch.arange(6.0).reshape(2, 3).t(),
    "expanded": lambda: torch.ones(1, 3).expand(2, 3),
    "image": lambda: torch.ones(1, 2, 2, 2),
    "empty": lambda: torch.zeros(0, 3),
    "leaf": lambda: torch.tensor([2.0], requires_grad=True),
    "inner": lambda: torch.tensor([2.0], requires_grad=True) * 2,
    "inference": inference,
    "parameter": lambda: nn.Parameter(torch.tensor([2.0])),
    "buffer": lambda: nn.UninitializedBuffer(),
    "plain subclass": lambda: torch.tensor([2.0]).as_subclass(Plain),
    "overriding": lambda: torch.tensor([2.0]).as_subclass(Overriding),
    "handling": lambda: torch.tensor([2.0]).as_subclass(Handling),
    "wrapping": Wrapping,
    "sparse": lambda: torch.eye(2).to_sparse(),
    "compressed": lambda: torch.eye(2).to_sparse_csr(),
    "quantized": quantized,
    "nested": nested,
    "jagged": jagged,
    "meta": lambda: torch.ones(2, device="meta"),
    "fake": lambda: fake(torch.ones(1)),
    "no tensor": lambda: [1.0],
}
CALLS = {
    "item": lambda t: torch.Tensor.item(t),
    "item of": lambda t: t.item(),
    "numpy too much": lambda t: t.numpy(1),
    "cpu": lambda t: t.cpu(),
    "cpu format": lambda t: t.cpu(memory_format=torch.channels_last),
    "tolist": lambda t: t.tolist(),
    "numpy": lambda t: t.numpy(),
    "numpy force": lambda t: t.numpy(force=True),
    "nonzero": lambda t: t.nonzero(),
    "nonzero tuple": lambda t: t.nonzero(as_tuple=True),
    "torch.nonzero": lambda t: torch.nonzero(t),
    "bool": bool,
    "int": int,
    "float": float,
    "complex": complex,
    "index": operator.index,
    "subscript": lambda t: [1, 2, 3, 4][t],
    "round": lambda t: round(t),
    "format": lambda t: f"{t:.1f}",
    "condition": lambda t: 1 if t else 0,
    "array": np.asarray,
    "array of": lambda t: np.asarray(t, dtype="float32"),
    "__array__": lambda t: t.__array__(np.float64),
    "contains": lambda t: 2.0 in t,
    "contains text": lambda t: "a" in t,
    "contains tensor": lambda t: torch.tensor(2.0) in t,
    "iterate": lambda t: list(t),
    "repr": repr,
    "to nothing": lambda t: t.to(),
    "to device": lambda t: t.to("cpu"),
    "to dtype": lambda t: t.to(torch.float64),
    "to both": lambda t: t.to("cpu", torch.float64, True),
    "to words": lambda t: t.to(device=torch.device("cpu"), dtype=torch.half, non_blocking=True),
    "to other": lambda t: t.to(torch.ones(1, dtype=torch.float64)),
    "to copy": lambda t: t.to("cpu", copy=True),
    "to itself": lambda t: t.to("cpu") is t,
    "to meta": lambda t: t.to("meta"),
    "to format": lambda t: t.to(memory_format=torch.channels_last),
    "to nonsense": lambda t: t.to("nonsense"),
    "to too much": lambda t: t.to("cpu", 1, 2, 3, 4, 5),
    "to unknown": lambda t: t.to(nonsense=1),
    "cuda": lambda t: t.cuda(),
    "cuda of": lambda t: t.cuda("nonsense"),
    "to cuda": lambda t: t.to("cuda"),
    "copy": lambda t: t.copy_(torch.ones(1)),
    "copy self": lambda t: t.copy_(t),
    "copy async": lambda t: t.copy_(torch.ones(1, dtype=torch.float64), non_blocking=True),
    "copy from": lambda t: torch.zeros(3).copy_(t),
    "copy wrong": lambda t: t.copy_(torch.ones(7, 7)),
    "copy nonsense": lambda t: t.copy_("nonsense"),
    "pin": lambda t: t.pin_memory(),
    "pin of": lambda t: t.pin_memory("cpu"),
    "is pinned": lambda t: t.is_pinned(),
    "type": lambda t: t.type(torch.float64),
    "deepcopy": copy.deepcopy,
    "pickle": lambda t: pickle.loads(pickle.dumps(t)),
    "bound": lambda t: (t.item.__name__, t.item.__self__ is t, t.to.__self__ is t),
    "vmap": lambda t: torch.vmap(lambda x: x.to(torch.float64) + x.cpu())(t),
    "vmap item": lambda t: torch.vmap(lambda x: x.item())(t),
    "vmap bool": lambda t: torch.vmap(lambda x: x if x else -x)(t),
    "vmap copy": lambda t: torch.vmap(lambda x: torch.zeros_like(x).copy_(x))(t),
    "vmap nonzero": lambda t: torch.vmap(lambda x: x.nonzero())(t),
    "grad": lambda t: torch.func.grad(lambda x: x.to(torch.float64).cpu().sum())(t),
    "grad item": lambda t: torch.func.grad(lambda x: x.sum() * x.sum().item())(t),
    "jvp": lambda t: torch.func.jvp(lambda x: x.to(torch.float64), (t,), (t,)),
    "functional": lambda t: torch.func.functionalize(lambda x: x.clone().copy_(x).to("cpu"))(t),
    "backward": lambda t: torch.autograd.grad(t.to(torch.float64).cpu().sum(), t),
}


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Fake tensors log their errors."""
    caplog.set_level(logging.CRITICAL)


@pytest.fixture
def instrument(uninstrumented):
    """Instruments and replaces the methods of tensors, which is done when CUDA is initialised."""

    def run():
        uninstrumented.instrument()
        instrumentor.active_session()._patch_tensors()
        assert "item" in vars(torch.Tensor)

    return run


def outcomes(outcome):
    found = {}
    for kind, make in KINDS.items():
        for call, function in CALLS.items():
            Overriding.log = []
            found[kind, call] = outcome(lambda: function(make())), Overriding.log  # noqa: B023
    for call, function in CALLS.items():
        with FakeTensorMode():
            found["fake mode", call] = outcome(lambda: function(torch.ones(1)))  # noqa: B023
    return found


def differing(expected, actual):
    return {key: (expected[key], actual[key]) for key in expected if expected[key] != actual[key]}


def test_methods_do_what_they_did(instrument, outcome):
    """Results, errors and messages, outside of all and in an inference."""
    expected = outcomes(outcome)
    instrument()
    assert {} == differing(expected, outcomes(outcome))
    with warpspan.inference("all"):
        assert {} == differing(expected, outcomes(outcome))


ON_DEVICE = {
    "scalar": lambda: torch.tensor(2.0, device="cuda"),
    "whole": lambda: torch.tensor([3], device="cuda"),
    "vector": lambda: torch.tensor([1.0, 0.0, 2.0], device="cuda"),
    "image": lambda: torch.ones(1, 2, 2, 2, device="cuda"),
    "empty": lambda: torch.zeros(0, 3, device="cuda"),
    "leaf": lambda: torch.tensor([2.0], device="cuda", requires_grad=True),
    "parameter": lambda: nn.Parameter(torch.tensor([2.0], device="cuda")),
    "host": lambda: torch.ones(2, 3),
    "pinned": lambda: torch.ones(2, 3).pin_memory(),
}
DEVICE_CALLS = {
    **{name: call for name, call in CALLS.items() if not name.startswith(("pickle", "functional"))},
    "from host": lambda t: t.copy_(torch.ones(1)),
    "from device": lambda t: t.copy_(torch.ones(1, device="cuda"), non_blocking=True),
    "to other device": lambda t: t.to("cuda:1"),
    "to other pinned": lambda t: torch.ones(t.shape).pin_memory().copy_(t, non_blocking=True),
    "to this device": lambda t: t.to(torch.device("cuda", 0), non_blocking=True),
    "to like device": lambda t: t.to(torch.ones(1, device="cuda"), non_blocking=True),
    "to no device": lambda t: t.to("cuda:7"),
    "cuda words": lambda t: t.cuda(device=1, non_blocking=True),
    "synchronize": lambda t: torch.cuda.synchronize(),
    "synchronize of": lambda t: torch.cuda.synchronize("cuda:7"),
    "stream": lambda t: torch.cuda.Stream().synchronize(),
    "event": lambda t: torch.cuda.Event().synchronize(),
    "module": lambda t: nn.Linear(2, 2).to("cuda").bias.device,
    "modules": lambda t: nn.Linear(2, 2).cuda(1).bias.device,
}


def on_device(outcome, device):
    found = {}
    for kind, make in ON_DEVICE.items():
        for call, function in DEVICE_CALLS.items():
            before = len(device.calls)
            found[kind, call] = (
                outcome(lambda: function(make())),  # noqa: B023
                # The finisher asks its own questions meanwhile.
                [
                    done._replace(stall_s=None)
                    for done in device.calls[before:]
                    if done.thread == threading.current_thread().name
                ],
            )
    return found


def test_methods_on_a_device_do_what_they_did(uninstrumented, outcome):
    """Also where they are counted; and no copy, question or wait is added."""
    with ScriptedDevice(count=2) as device, torch.random.fork_rng(devices=()):
        torch.cuda.init()
        expected = on_device(outcome, device)
        uninstrumented.instrument(sample_period_s=0.0)
        assert "item" in vars(torch.Tensor)
        assert {} == differing(expected, on_device(outcome, device))

        class Model(nn.Linear):
            def forward(self):
                return on_device(outcome, device)

        assert {} == differing(expected, Model(1, 1, device="cuda").eval()())
        with warpspan.inference("all"):
            assert {} == differing(expected, on_device(outcome, device))
        device.complete()
        assert warpspan.flush(30)
        uninstrumented.uninstrument()


def modules(outcome):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    weight = model[0].weight
    calls = {
        "to": lambda: model.to("cpu") is model,
        "to dtype": lambda: model.to(torch.float64)[0].weight,
        "to words": lambda: model.to(device="cpu", dtype=torch.float32)[0].weight is weight,
        "to nonsense": lambda: model.to("nonsense"),
        "to whole numbers": lambda: model.to(torch.int64),
        "to nothing": lambda: model.to(),
        "to meta": lambda: nn.Linear(2, 2).to("meta").weight,
        "cuda": lambda: model.cuda(),
        "cuda of": lambda: model.cuda("nonsense"),
        "cpu": lambda: model.cpu() is model,
        "synchronize": torch.cuda.synchronize,
        "synchronize of": lambda: torch.cuda.synchronize("cpu"),
        "copy": lambda: copy.deepcopy(model)[0].weight,
    }
    return {name: outcome(call) for name, call in calls.items()}


def test_modules_do_what_they_did(instrument, outcome):
    """Moving and casting whole modules."""
    torch.manual_seed(0)
    expected = modules(outcome)
    instrument()
    torch.manual_seed(0)
    assert expected == modules(outcome)
    with warpspan.inference("all"):
        torch.manual_seed(0)
        assert expected == modules(outcome)


def looks():
    """What a function says of itself."""
    owners = {f"Tensor.{name}": (torch.Tensor, name) for name in METHODS} | FUNCTIONS
    found = {}
    for label, (owner, name) in owners.items():
        function = getattr(owner, name)
        try:
            signature = str(inspect.signature(function))
        except ValueError as error:
            signature = type(error).__name__
        found[label] = (
            signature,
            function.__doc__,
            function.__name__,
            function.__qualname__,
            getattr(function, "__module__", None),
            torch.overrides.resolve_name(function),
            torch.overrides.is_tensor_method_or_property(function),
            callable(function),
        )
        pickle.loads(pickle.dumps(function))
    return found


def test_methods_look_as_they_did(uninstrumented, instrument):
    """Signatures, documentation, names, pickling; and afterwards they are the same objects."""
    owners = {torch.Tensor, *(owner for owner, _ in FUNCTIONS.values())}
    attributes = {owner: dict(vars(owner)) for owner in owners}
    expected = looks()
    bound = torch.tensor(2.0).item
    instrument()
    assert expected == looks()
    assert 2.0 == bound() == pickle.loads(pickle.dumps(torch.tensor(2.0).item))()
    uninstrumented.uninstrument()
    for owner, before in attributes.items():
        assert before.keys() == vars(owner).keys()
        assert [] == [name for name, value in vars(owner).items() if value is not before[name]]


def test_modes_see_what_they_saw(instrument):
    """A mode that overrides functions, and one that overrides operators, get the same calls."""
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    class Functions(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            log.append(NAMES.get(func, getattr(func, "__name__", repr(func))))
            return func(*args, **(kwargs or {}))

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            log.append(str(func))
            return func(*args, **(kwargs or {}))

    def run(mode):
        with mode:
            for function in CALLS.values():
                tensor = torch.tensor([2.0])
                try:
                    function(tensor)
                except Exception as error:
                    log.append(type(error).__name__)

    logs = []
    for instrumented in (False, True):
        if instrumented:
            instrument()
        log = []
        run(Functions())
        run(Operators())
        logs.append(log)
    assert logs[0] == logs[1]
