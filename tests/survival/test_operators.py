"""Over a thousand of torch's own operations do with us what they do without us."""

import inspect
import math
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.overrides import get_testing_overrides, resolve_name

from warpspan import instrumentor

# Another library computes them, with results by chance where arguments are no good.
_FOREIGN = (
    *("cudnn", "miopen", "mkldnn", "fbgemm", "quantized_", "foreach", "rnn", "lstm", "gru"),
    *("linalg", "cholesky", "lu_", "qr", "eig", "svd", "inverse", "pinv", "det", "solve", "lstsq"),
    *("matrix_power", "matrix_exp", "lobpcg", "lowrank", "triangular"),
)
# Addresses, and memory that nobody has written to.
_CHANCE = ("data_ptr", "_cdata", "empty", "resize")
_ONE = frozenset(
    {
        *("N", "axis", "axis0", "axis1", "chunks", "diagonal", "dilation", "dim", "dim0", "dim1"),
        *("dimension", "dims", "end", "eps", "exponent", "groups", "indices_or_sections", "k"),
        *("lambd", "length", "momentum", "n", "num_classes", "num_samples", "p", "padding"),
        *("repeats", "shifts", "split_size_or_sections", "start", "step", "stride", "threshold"),
        "value",
    }
)
_SHAPES = frozenset({"size", "sizes", "shape", "output_size", "normalized_shape"})


def argument(name, tensor):
    """Something that an argument of this name may be."""
    if name in _ONE:
        return 1
    if name in _SHAPES:
        return (3, 3)
    if name == "kernel_size":
        return 2
    if name in ("index", "indices", "targets"):
        return torch.arange(9).reshape(3, 3) % 3
    if name in ("mask", "condition"):
        return torch.eye(3) > 0
    if name in ("tensors", "inputs"):
        return [tensor(torch.eye(3)), tensor(torch.ones(3, 3))]
    if name == "dtype":
        return torch.float64
    if name in ("train", "training"):
        return False
    random = torch.rand(3, 3, generator=torch.Generator().manual_seed(len(name)))
    return tensor(random + torch.eye(3))


def operations():
    """By name, each that users can override, with the names of the arguments that it needs."""
    found = {}
    for function, stand_in in get_testing_overrides().items():
        name = resolve_name(function)
        if name is None or any(word in name for word in _FOREIGN + _CHANCE):
            continue
        last = name.rpartition(".")[2]
        if last.startswith("_") and (
            not last.startswith("__") or last in ("__set__", "__delete__")
        ):
            continue
        found[name] = (
            function,
            [
                parameter.name
                for parameter in inspect.signature(stand_in).parameters.values()
                if parameter.default is parameter.empty
                and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            ],
        )
    return found


@pytest.fixture(scope="module")
def originals():
    """The operations as they are without us."""
    return operations()


class Overriding(torch.Tensor):
    """Notes which of torch's functions it is asked for."""

    names: ClassVar = {}
    log: ClassVar = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.log.append(cls.names.get(func, f"{func!r} is not torch's own"))
        return super().__torch_function__(func, types, args, kwargs)


def outcomes(functions, outcome, tensor):
    found = {}
    for name, (function, parameters) in functions.items():
        torch.manual_seed(0)
        arguments = [argument(parameter, tensor) for parameter in parameters]
        Overriding.log = []
        found[name] = outcome(lambda: function(*arguments)), Overriding.log  # noqa: B023
    return found


def differing(expected, actual):
    """The names of those that differ. Sums are the same but for rounding, which is by alignment."""
    return [
        (name, expected[name], actual[name])
        for name in expected
        if not alike(expected[name], actual[name])
    ]


def close(first, second):
    return math.isclose(first, second, rel_tol=1e-3, abs_tol=1e-5)


def alike(first, second):
    if isinstance(first, float) and isinstance(second, float):
        return first == second or first != first or close(first, second)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(alike, first, second))
    return first == second


def plain(values):
    return values


def overriding(values):
    return values.as_subclass(Overriding)


@pytest.mark.parametrize("tensor", [plain, overriding])
def test_operations_do_what_they_did(originals, uninstrumented, outcome, tensor):
    """Results, errors with their messages, and the functions that a subclass is asked for."""
    Overriding.names = {function: name for name, (function, _) in originals.items()}
    expected = outcomes(originals, outcome, tensor)
    assert 800 < sum(found[0] == "gave" for found, _ in expected.values())
    uninstrumented.instrument()
    instrumentor.active_session()._patch_tensors()  # as when CUDA is initialised
    functions = operations()
    assert list(originals) == list(functions)
    assert [] == differing(expected, outcomes(functions, outcome, tensor))


def test_operations_inside_an_inference(originals, uninstrumented, outcome):
    """The same inside the call of a model, where everything is recorded."""
    expected = outcomes(originals, outcome, plain)
    uninstrumented.instrument()
    instrumentor.active_session()._patch_tensors()
    functions = operations()

    class Model(nn.Linear):
        def forward(self):
            return outcomes(functions, outcome, plain)

    assert [] == differing(expected, Model(1, 1).eval()())
    assert ["forward Model"] == [span["name"] for span in uninstrumented.inferences()]


def test_the_tables_of_overrides_are_the_same(originals, uninstrumented):
    """`torch.overrides` lists the same functions by the same names, instrumented or not."""
    tables = (
        torch.overrides.get_ignored_functions,
        torch.overrides.get_overridable_functions,
        torch.overrides.get_testing_overrides,
    )

    def forget():
        for table in tables:
            getattr(table, "cache_clear", lambda: None)()

    def names():
        forget()
        ignored, overridable, testing = (table() for table in tables)
        return (
            sorted(map(str, (resolve_name(function) for function in ignored))),
            {str(key): sorted(f.__name__ for f in fs) for key, fs in overridable.items()},
            sorted(map(str, (resolve_name(function) for function in testing))),
        )

    expected = names()
    try:
        uninstrumented.instrument()
        instrumentor.active_session()._patch_tensors()
        assert expected == names()
    finally:
        uninstrumented.uninstrument()
        forget()
