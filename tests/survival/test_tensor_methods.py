"""Methods that copy, move and read tensors do with us what they do without us, for every kind."""

import copy
import inspect
import logging
import pickle
import threading

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import warpspan
from tests.support.tensor_kinds import CALLS, FUNCTIONS, KINDS, METHODS, NAMES, Overriding
from warpspan import instrumentor
from warpspan.testing import ScriptedDevice


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
