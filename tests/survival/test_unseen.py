"""What we read of tensors and caches calls nothing of the program's."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from warpspan import guard

X = torch.ones(2, 4)


class Takes(nn.Linear):
    """Takes and gives what it is given."""

    def forward(self, x, past_key_values=None):
        return super().forward(X), past_key_values


class Watch(TorchFunctionMode):
    """Notes the functions that it sees."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(function)
        return function(*args, **(kwargs or {}))


class Watched(torch.Tensor):
    """A tensor whose class notes what it sees."""

    seen = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.seen.append(function)
        return super().__torch_function__(function, types, args, kwargs or {})


def seen_by_a_mode():
    model = Takes(4, 4).eval()
    pairs = ((torch.ones(1, 1, 2, 4), torch.ones(1, 1, 2, 4)),)
    with Watch() as watch:
        for _ in range(2):
            model(X, past_key_values=pairs)
    return watch.seen


def seen_by_a_class():
    Watched.seen.clear()
    model = Takes(4, 4).eval()
    model.weight = nn.Parameter(torch.ones(4, 4).as_subclass(Watched), requires_grad=False)
    for _ in range(2):
        model(X.as_subclass(Watched))
    return [*Watched.seen]


@pytest.mark.parametrize("seen", [seen_by_a_mode, seen_by_a_class])
def test_what_modes_and_subclasses_see(uninstrumented, seen):
    """The same functions as without warpspan."""
    before = seen()
    uninstrumented.instrument()
    assert before == seen()
    assert 2 == len(uninstrumented.inferences())


def test_a_cache_of_an_unknown_class(telemetry, expected):
    """No attribute of it is asked for, which may run its code."""

    class Unknown:
        def __getattribute__(self, name):
            raise AssertionError(name)

    model = Takes(4, 4).eval()
    cache = Unknown()
    assert cache is model(X, past_key_values=cache)[1]
    assert {} == guard.faults
    assert 1 == len(telemetry.inferences())


def test_a_strided_nested_tensor(telemetry, caplog):
    """It has no shape: nothing is said of the input, and nothing is logged."""
    with warnings.catch_warnings():  # torch gives it once in a process
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors", UserWarning)
        nested = torch.nested.nested_tensor([torch.ones(1, 4), torch.ones(2, 4)])
    Takes(4, 4).eval()(nested)
    (span,) = telemetry.inferences()
    assert "pytorch.input.batch_size" not in span["attributes"]
    assert ([], {}) == (caplog.records, guard.faults)


def test_a_module_that_was_not_initialised(uninstrumented, caplog):
    """The error is torch's own, and nothing is logged."""

    class Bare(nn.Module):
        def __init__(self):
            pass

    def error():
        with pytest.raises(AttributeError) as caught:
            Bare()(X)
        return str(caught.value), caught.value.__context__

    before = error()
    uninstrumented.instrument()
    assert before == error()
    assert ([], {}) == (caplog.records, guard.faults)
