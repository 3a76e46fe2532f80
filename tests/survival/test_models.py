"""Models of every make: hooked, overridden, copied, saved, moved, wrapped, and a thousand of them."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import threading
import weakref

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from warpspan import instrumentor

X = torch.ones(2, 4)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x)


class Doubles(Model):
    """Overrides `__call__` around torch's own."""

    def __call__(self, x):
        return super().__call__(2 * x)


class Bypasses(Model):
    """Overrides `__call__` instead of torch's own."""

    def __call__(self, x):
        return self.forward(x)


@pytest.fixture
def model():
    return Model().eval()


def test_user_hooks_of_every_kind(telemetry, model, expected):
    """They run, in torch's order, inside the one inference, and may change input and output."""
    ran = []

    def note(name, result=None):
        return lambda *args: ran.append(name) or result

    model.register_forward_pre_hook(note("pre", (3 * X,)))
    model.register_forward_pre_hook(
        lambda module, args, kwargs: ran.append("pre with kwargs"), with_kwargs=True
    )
    model.register_forward_hook(note("post"))
    model.register_forward_hook(note("always"), always_call=True)
    model.register_forward_hook(
        lambda module, args, kwargs, output: ran.append("post with kwargs") or output + 1,
        with_kwargs=True,
    )
    handles = [
        register_module_forward_pre_hook(note("global pre")),
        register_module_forward_hook(note("global post")),
    ]
    try:
        output = model(X)
    finally:
        for handle in handles:
            handle.remove()
    assert torch.equal(model.linear(3 * X) + 1, output)
    attribution = [
        "global pre",
        "pre",
        "pre with kwargs",
        "global pre",
    ]  # the second is the Linear's
    assert [
        *attribution,
        "global post",
        "global post",
        "post",
        "always",
        "post with kwargs",
    ] == ran
    assert [
        expected(model, (2, 4), first=True),
        expected(model.linear, (2, 4)),
    ] == telemetry.inferences()


@pytest.mark.parametrize("kind", ["pre", "post"])
def test_a_hook_that_raises(telemetry, model, expected, kind):
    """Its exception is the caller's, and a hook with always_call still runs."""
    error = LookupError("no such hook")
    always = []

    def fail(*args):
        raise error

    register = model.register_forward_pre_hook if kind == "pre" else model.register_forward_hook
    register(fail)
    model.register_forward_hook(lambda *args: always.append(1), always_call=True)
    with pytest.raises(LookupError) as caught:
        model(X)
    assert caught.value is error
    assert [1] == always
    model._forward_pre_hooks.clear()
    model._forward_hooks.clear()
    model(X)
    assert [
        expected(model, (2, 4), first=True, error="LookupError"),
        expected(model, (2, 4)),
    ] == telemetry.inferences()


def test_backward_hooks(telemetry, model):
    """They see the gradients that they see without warpspan."""
    seen = []
    model.register_full_backward_hook(lambda module, before, after: seen.append(after[0].sum()))
    model(X.clone().requires_grad_()).sum().backward()
    assert [torch.tensor(8.0)] == seen
    assert ["forward Model"] == [span["name"] for span in telemetry.inferences()]


def test_a_subclass_that_overrides_call(telemetry, expected):
    """Around torch's own `__call__` or instead of it: it is one inference."""
    doubles, bypasses = Doubles().eval(), Bypasses().eval()
    assert torch.equal(doubles.linear.forward(2 * X), doubles(X))
    assert torch.equal(bypasses.linear.forward(X), bypasses(X))
    first, second = telemetry.inferences()
    assert (expected(doubles, (2, 4), first=True), "forward Bypasses") == (first, second["name"])


def test_calling_forward_itself(telemetry, model):
    """Without `__call__` it is the model's inference as well; the submodule's call is its step."""
    model.forward(X)
    (span,) = telemetry.inferences()
    assert ("forward Model", 1) == (span["name"], span["attributes"]["pytorch.step.count"])


def test_a_forward_of_the_instance(telemetry, model, expected):
    """A forward that was replaced on the instance, as quantization tools do, is what runs."""
    model.forward = lambda x: x + 1
    assert torch.equal(X + 1, model(X))
    assert [expected(model, (2, 4), first=True)] == telemetry.inferences()


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: saved(model),
    ],
    ids=["copy", "deepcopy", "pickle", "torch.save"],
)
def test_a_copy_of_a_model_that_was_called(telemetry, model, expected, copied):
    """It can be copied after its calls as before, and the copy is recorded as the model is."""
    names = set(vars(model))
    model(X)
    twin = copied(model)
    assert names == set(vars(twin)) == set(vars(model))
    assert torch.equal(model(X), twin(X))
    assert [
        expected(model, (2, 4), first=True),
        expected(model, (2, 4)),
        expected(twin, (2, 4)),
    ] == telemetry.inferences()


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_a_thousand_models(telemetry):
    """Each is recorded and none is kept: all can be collected at once, by reference count alone."""
    gc.collect()
    gc.disable()
    try:
        models = [Model().eval() for _ in range(1000)]
        alive = weakref.WeakSet(models)
        for model in models:
            model(X)
        assert 1000 == len(telemetry.spans())
        tracker = instrumentor.active_tracker()
        assert 1000 == len(tracker.registry._infos)
        del model
        models.clear()
        assert 0 == len(alive)
        assert {} == tracker.registry._infos
    finally:
        gc.enable()


def test_a_model_that_dies_before_its_span_ends(telemetry):
    """Its class is known; what was not counted in time is absent."""
    finisher = instrumentor.active_session().finisher
    with finisher._working:  # nothing is finished as long as this is held
        Model().eval()(X)
    (span,) = telemetry.inferences()
    assert "forward Model" == span["name"]
    assert "pytorch.model.parameter.count" not in span["attributes"]


@pytest.mark.parametrize(
    ("cast", "dtype"),
    [
        (lambda model: model.half(), "float16"),
        (lambda model: model.to(torch.bfloat16), "bfloat16"),
        (lambda model: model.double(), "float64"),
    ],
    ids=["half", "bfloat16", "double"],
)
def test_a_model_that_was_cast(telemetry, model, expected, cast, dtype):
    """Its dtype and size are those that it has at the call."""
    model(X)
    before = expected(model, (2, 4), first=True)
    assert [before] == telemetry.inferences()
    model = cast(model)
    model(X.to(next(model.parameters()).dtype))
    assert [before, expected(model, (2, 4), dtype=dtype)] == telemetry.inferences()


def test_replaced_parameters(telemetry, model, expected):
    """A layer that was replaced counts from the next call on."""
    model(X)
    telemetry.inferences()
    model.linear = nn.Linear(4, 8)
    model(X)
    assert [20, 40] == [
        span["attributes"]["pytorch.model.parameter.count"] for span in telemetry.inferences()
    ]


def test_a_lazy_model(telemetry, expected):
    """It has its parameters once its first call made them."""
    lazy = nn.LazyLinear(3).eval()
    lazy(X)
    assert 15 == telemetry.inferences()[0]["attributes"]["pytorch.model.parameter.count"]


def test_weight_tying_and_parametrization(telemetry, expected):
    """Submodules that compute a weight are part of the call."""
    linear = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)).eval()
    linear(X)
    assert [
        expected(linear, (2, 4), name="ParametrizedLinear", first=True)
    ] == telemetry.inferences()


def test_parameterless_roots(uninstrumented, expected):
    """A transform is no inference, nor is what it calls, unless it is asked for."""
    transform = nn.Sequential(nn.ReLU(), nn.Softmax(-1)).eval()
    uninstrumented.instrument()
    transform(X)
    assert [] == uninstrumented.inferences()
    uninstrumented.uninstrument()
    uninstrumented.instrument(parameterless=True)
    transform(X)
    assert [
        expected(transform, (2, 4), first=True, pytorch_model_device_count=None)
    ] == uninstrumented.inferences()


def test_a_model_of_buffers_only(telemetry, expected):
    """Buffers are state: batch norm without weights is an inference."""
    norm = nn.BatchNorm1d(4, affine=False).eval()
    norm(X)
    assert [expected(norm, (2, 4), first=True)] == telemetry.inferences()


def test_excluded_models(uninstrumented, expected, model):
    """By class name or pattern; what they call is not recorded in their place."""
    uninstrumented.instrument(excluded_models=["Dou*", "Linear"])
    Doubles().eval()(X)
    nn.Linear(4, 4).eval()(X)
    model(X)
    assert [expected(model, (2, 4), first=True)] == uninstrumented.inferences()


def test_data_parallel_replicas(telemetry, expected, model):
    """Replicas run on threads without a context: they are part of the wrapper's one inference."""

    class OnThreads(nn.DataParallel):
        """As on two GPUs: a replica a thread, by torch's own replica of each module."""

        def forward(self, x):
            children = dict(self.module.named_children())
            outputs = [None, None]

            def run(index):
                replica = self.module._replicate_for_data_parallel()
                for name, child in children.items():
                    twin = child._replicate_for_data_parallel()
                    for key, parameter in child.named_parameters(recurse=False):
                        setattr(twin, key, parameter.detach())
                    setattr(replica, name, twin)
                outputs[index] = replica(x.chunk(2)[index])

            threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return torch.cat(outputs)

    wrapped = nn.DataParallel(model).eval()
    assert torch.allclose(model(X), wrapped(X))
    wrapped.__class__ = OnThreads
    OnThreads.__name__ = "DataParallel"
    assert torch.allclose(model(X), wrapped(X))
    assert [
        expected(model, (2, 4), first=True),
        *[expected(model, (2, 4))] * 3,
    ] == telemetry.inferences()
