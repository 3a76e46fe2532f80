"""The patched call: what it asks, whom it calls, and what it leaves alone."""

from __future__ import annotations

import inspect
import traceback
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from warpspan.hooks.patches import Patches
from warpspan.hooks.torch import module_call
from warpspan.runtime.scopes import NO_SCOPE, current

X = torch.ones(2, 4)


class Scope:
    """Stands for the scope of one call."""

    takes_steps = False
    cache_call = None

    def __init__(self, log, covers=True):
        self._log = log
        self.covers = covers
        self._token = current.set(self)

    def fail(self, error):
        self._log.append(("fail", error))

    def close(self):
        self._log.append(("close",))
        self.covers = False
        current.reset(self._token)


class Tracker:
    """Opens a scope for each call that it is asked for, or none."""

    def __init__(self):
        self.log = []
        self.opens = True
        self.covers = True

    def open_call(self, module, args, kwargs):
        self.log.append(("open", type(module).__name__, args, kwargs))
        return Scope(self.log, self.covers) if self.opens else None


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, *, fail=None):
        if fail is not None:
            raise fail
        return self.linear(x)


@pytest.fixture
def tracker():
    return Tracker()


@pytest.fixture(params=["rewritten", "around another patch", "without source"])
def switch(request, tracker, monkeypatch):
    """The patch in torch's own code, and around it where that can't be."""
    original = nn.Module._call_impl
    if request.param == "around another patch":

        def theirs(self, *args, **kwargs):
            return original(self, *args, **kwargs)

        monkeypatch.setattr(nn.Module, "_call_impl", theirs)
    elif request.param == "without source":
        monkeypatch.setattr(inspect, "getsource", raise_(OSError("could not get source code")))
    patches = Patches()
    function = nn.Module._call_impl
    before = function.__code__, dict(vars(function))
    yield module_call.patch(patches, tracker)
    assert (request.param == "rewritten") == (nn.Module._call_impl is function)
    assert [] == patches.restore()
    assert nn.Module._call_impl is function
    assert before == (function.__code__, vars(function))


def raise_(error):
    def raises(*_):
        raise error

    return raises


@pytest.fixture
def model():
    return Model().eval()


def test_only_the_outermost_call_is_asked_for(switch, tracker, model):
    """With its arguments as they are; what it covers is called as torch does."""
    output = model(X, fail=None)
    assert torch.equal(model.linear.forward(X), output)
    assert [("open", "Model", (X,), {"fail": None}), ("close",)] == tracker.log


def test_a_scope_that_covers_nothing(switch, tracker, model):
    """Then each call inside is asked for, too."""
    tracker.covers = False
    model(X)
    assert ["open", "open", "close", "close"] == [entry[0] for entry in tracker.log]


def test_a_call_that_gets_no_scope(switch, tracker, model):
    """It runs, and so do those inside, each asked for."""
    tracker.opens = False
    assert (2, 4) == model(X).shape
    assert [("open", "Model", (X,), {}), ("open", "Linear", (X,), {})] == tracker.log


def test_what_leaves_the_call(switch, tracker, model):
    """The scope hears of it, and is closed."""
    for error in (ValueError("no"), KeyboardInterrupt()):
        tracker.log.clear()
        with pytest.raises(type(error)) as caught:
            model(X, fail=error)
        assert caught.value is error
        assert [("fail", error), ("close",)] == tracker.log[1:]
        assert current.get() is NO_SCOPE


def test_switched_off(switch, tracker, model):
    """It is as if it were not there."""
    switch.tracker = None
    assert (2, 4) == model(X).shape
    assert [] == tracker.log


def test_switched_off_in_the_middle_of_a_call(switch, tracker, model):
    """The scope that is open is closed."""
    model.register_forward_pre_hook(lambda *args: setattr(switch, "tracker", None))
    model(X)
    model(X)
    assert ["open", "close"] == [entry[0] for entry in tracker.log]


def test_a_model_compiled_in_place(switch, tracker, model):
    """What `Module.compile` made is called, outermost or inside."""
    calls = []

    def compiled(*args):
        calls.append(args)
        return model.linear._call_impl(*args)

    model.linear._compiled_call_impl = compiled
    assert torch.equal(model.linear.forward(X), model(X))
    assert torch.equal(model.linear.forward(X), model.linear(X))
    assert [(X,), (X,)] == calls
    assert ["Model", "Linear"] == [entry[1] for entry in tracker.log if entry[0] == "open"]


def test_arguments_of_any_name(switch, tracker):
    """No name of ours is in the way of the host's."""

    class Takes(nn.Module):
        def forward(self, *args, **kwargs):
            return args, kwargs

    names = dict.fromkeys(("call", "module", "args", "kwargs", "switch", "scope", "outer"), 1)
    assert ((1,), names) == Takes()(1, **names)


def stack_in(model):
    """Frames from the caller's to the one of `forward`: file, line and name."""
    found = []
    model.forward = lambda x: found.extend(traceback.extract_stack()[-4:]) or x
    model(X)
    return [(frame.filename, frame.lineno, frame.name) for frame in found]


def test_the_stack_is_as_without_it(tracker, model):
    """Neither a frame of ours nor another line of torch's, without hooks and with them."""
    for hooked in (False, True):
        if hooked:
            model.register_forward_hook(lambda *_: None)
        expected = stack_in(model)
        patches = Patches()
        module_call.patch(patches, tracker)
        actual = stack_in(model)
        patches.restore()
        assert expected == actual
        assert {"_wrapped_call_impl", "_call_impl"} < {name for *_, name in actual}
    assert 4 == len(tracker.log)


def test_hooks_are_called_and_results_are_seen(switch, tracker, model):
    """What a hook returns is what the call's scope is told of."""
    returned = []
    Scope.cache_call = SimpleNamespace(returned=returned.append)
    model.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    model.register_forward_hook(lambda module, args, output: output * 2)
    output = model(X)
    Scope.cache_call = None
    assert torch.equal(model.linear.forward(X + 1) * 2, output)
    assert [True] == [output is one for one in returned]


def test_somebody_changed_the_code_after_us(tracker):
    """It stays theirs, and ours is named."""
    function = nn.Module._call_impl
    before = function.__code__
    patches = Patches()
    module_call.patch(patches, tracker)
    function.__code__ = before.replace(co_name="theirs")
    assert ["Module._call_impl"] == patches.restore()
    assert "theirs" == function.__code__.co_name
    function.__code__ = before
