"""Admission: each call that is no inference is counted once, under its reason."""

from __future__ import annotations

import pytest
import torch
from opentelemetry.instrumentation.utils import suppress_instrumentation
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

import warpspan
from warpspan import guard
from warpspan.config import Settings
from warpspan.instrumentor import active_tracker
from warpspan.probes.model import ModelInfo
from warpspan.records.skips import SkipReason
from warpspan.runtime.admission import Admission, is_traced
from warpspan.runtime.scopes import NO_SCOPE, current
from warpspan.testing import InMemoryTelemetry

X = torch.ones(2, 4)


@pytest.fixture
def model():
    return nn.Linear(4, 4).eval()


def skips():
    """Calls that were skipped so far, by reason."""
    skipped = active_tracker().admission.skipped
    return {reason: count for reason, count in skipped.items() if count}


def names(telemetry):
    """The names of the spans so far."""
    return [span.name for span in telemetry.spans()]


def test_every_reason_is_counted_from_the_start():
    """Each has a count of its own."""
    expected = {reason.value: 0 for reason in SkipReason}
    assert expected == Admission(Settings()).skipped


def test_an_inference_is_no_skip(telemetry, model):
    """A call that is admitted counts under no reason."""
    model(X)
    assert ({}, ["forward Linear"]) == (skips(), names(telemetry))


def test_training(telemetry, model):
    """Training mode with gradients; without gradients it is an inference."""
    model.train()
    model(X)
    assert ({"training": 1}, []) == (skips(), names(telemetry))
    with torch.no_grad():
        model(X)
    assert ({"training": 1}, ["forward Linear"]) == (skips(), names(telemetry))


class Ensemble(nn.Module):
    """Holds its models in a plain list, so that it has no parameters."""

    def __init__(self, *models):
        super().__init__()
        self.models = list(models)

    def forward(self, x):
        return sum(model(x) for model in self.models)


def test_parameterless(telemetry):
    """A module without state is no inference; each that holds no further one is counted."""
    nn.Sequential(nn.ReLU(), nn.ReLU()).eval()(X)
    assert ({"parameterless": 2}, []) == (skips(), names(telemetry))


@pytest.mark.parametrize("training", [False, True])
def test_a_model_inside_a_module_without_parameters(telemetry, model, training):
    """The module is transparent, whatever its own mode: what is inside are the inferences."""
    other = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    Ensemble(model, other).train(training)(X)
    assert ({}, ["forward Linear", "forward Sequential"]) == (skips(), names(telemetry))


def test_a_module_without_parameters_in_a_named_inference(telemetry, model):
    """It is no step, what is inside is one."""
    with warpspan.inference("all"):
        Ensemble(model, model).eval()(X)
    (span,) = telemetry.spans()
    assert ("all", 2) == (span.name, span.attributes["pytorch.step.count"])


def test_a_loss_in_training(telemetry, model):
    """It holds nothing, and counts as training."""
    nn.MSELoss()(model.train()(X), X)
    assert ({"training": 2}, []) == (skips(), names(telemetry))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_a_module_around_frozen_weights(telemetry, model):
    """A frozen script module has no parameters but weights: what is around it has them, too."""
    nn.Sequential(nn.ReLU(), torch.jit.freeze(torch.jit.script(model))).eval()(X)
    assert ({}, ["forward Sequential"]) == (skips(), names(telemetry))


class DryRun(nn.Module):
    """Runs its model once while it is constructed, to learn the size of the result."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        with torch.no_grad():
            self.size = self._measure().shape[-1]

    def _measure(self):
        return self.model(X)

    def forward(self, x):
        return self.model(x)


def test_a_dry_run_in_a_constructor(telemetry, model):
    """It is no inference, and the model's own calls are from then on."""
    whole = DryRun(model).eval()
    assert ({"construction": 1}, []) == (skips(), names(telemetry))
    model(X)
    whole(X)
    assert ["forward Linear", "forward DryRun"] == names(telemetry)


@pytest.mark.parametrize(
    "parametrize", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_a_parametrized_weight_that_is_read(telemetry, model, parametrize):
    """Computing a weight is no inference, a call of the model is one."""
    model = parametrize(model).eval()
    with torch.no_grad():
        model.weight.sum()
    assert ([], {"parametrization"}) == (
        names(telemetry),
        set(skips()) - {"construction", "training"},
    )
    model(X)
    assert ["forward ParametrizedLinear"] == names(telemetry)


def test_excluded(uninstrumented, model):
    """By the name of its class."""
    uninstrumented.instrument(excluded_models=("Lin*",))
    model(X)
    assert ({"excluded": 1}, []) == (skips(), names(uninstrumented))


def test_fake_tensors(telemetry, model):
    """Inside the mode nothing is computed."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        model(X)
    assert ({"fake_tensors": 1}, []) == (skips(), names(telemetry))


def test_a_model_on_the_meta_device(telemetry):
    """It has shapes only."""
    with torch.device("meta"):
        model = nn.Linear(4, 4).eval()
    model(torch.ones(2, 4, device="meta"))
    assert ({"fake_tensors": 1}, []) == (skips(), names(telemetry))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # newer versions of torch deprecate it
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_call_that_is_traced(telemetry, model):
    """torch.jit.trace runs the model to record its operators."""
    torch.jit.trace(model, X, check_trace=False)
    assert ({"tracing": 1}, []) == (skips(), names(telemetry))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_check_of_a_trace(telemetry, model):
    """torch.jit.trace then runs the model and its trace to compare them."""
    model(X)
    torch.jit.trace(model, X)
    assert ({"tracing": 2}, ["forward Linear"]) == (skips(), names(telemetry))


def test_a_call_in_export(telemetry, model):
    """torch.export builds a graph, in which nothing is an inference."""
    torch.export.export(model, (X,))
    assert [] == names(telemetry)


def test_a_call_while_torch_compiles(telemetry, model, monkeypatch):
    """Export that traces without Dynamo runs the call, with this flag set."""
    monkeypatch.setattr(torch.compiler, "_is_compiling_flag", True)
    model(X)
    assert ({"tracing": 1}, []) == (skips(), names(telemetry))


def test_recompute(uninstrumented, model):
    """The backward pass runs a checkpointed model anew: the forward pass was the inference."""
    uninstrumented.instrument(training=True)
    out = checkpoint(model.train(), X.clone().requires_grad_(), use_reentrant=False)
    assert ({}, ["forward Linear"]) == (skips(), names(uninstrumented))
    out.sum().backward()
    assert ({"recompute": 1}, ["forward Linear"]) == (skips(), names(uninstrumented))


def test_capture_of_a_graph(recorded):
    """It computes nothing; the replay is the inference."""
    model = nn.Linear(4, 4).to("cuda").eval()
    x = torch.ones(2, 4, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(x)
    assert ({"graph_capture": 1}, []) == (skips(), names(recorded))


def test_a_capture_that_python_did_not_begin(device, recorded):
    """The stream says so."""
    model = nn.Linear(4, 4).to("cuda").eval()
    x = torch.ones(2, 4, device="cuda")
    with device.capturing():
        model(x)
    assert ({"graph_capture": 1}, []) == (skips(), names(recorded))


def test_suppressed(telemetry, model):
    """As OpenTelemetry's own switch says."""
    with suppress_instrumentation():
        model(X)
    assert ({"suppressed": 1}, []) == (skips(), names(telemetry))


def test_a_fault_of_ours(model, monkeypatch):
    """The call runs and gives its result; the fault is counted beside it."""

    def fail(module):
        raise ValueError("a fault of ours")

    guard.forget()
    with InMemoryTelemetry() as telemetry:
        monkeypatch.setattr(active_tracker().registry, "model_info", fail)
        assert torch.equal(nn.functional.linear(X, model.weight, model.bias), model(X))
        assert ({"fault": 1}, [], {"begin": 1}) == (skips(), names(telemetry), dict(guard.faults))
    guard.forget()


def test_a_skipped_call_is_left_when_it_raises(telemetry, model):
    """What comes after it is looked at again."""
    model.train()
    with pytest.raises(RuntimeError):
        model(torch.ones(2, 5))
    assert current.get() is NO_SCOPE
    model.eval()(X)
    assert ({"training": 1}, ["forward Linear"]) == (skips(), names(telemetry))


def test_a_replica_passes_transparently(telemetry):
    """DataParallel's part of a call is neither an inference nor a skip."""
    replica = nn.Linear(4, 4).eval()._replicate_for_data_parallel()
    replica.weight, replica.bias = torch.ones(4, 4), torch.zeros(4)
    assert torch.equal(torch.full((2, 4), 4.0), replica(X))
    assert ({}, []) == (skips(), names(telemetry))


def test_what_a_replica_holds_is_asked_itself(telemetry, model):
    """A module inside that is no replica is a call of its own."""
    replica = nn.Sequential()._replicate_for_data_parallel()
    replica._modules["0"] = model
    replica(X)
    assert ({}, ["forward Linear"]) == (skips(), names(telemetry))


def test_is_traced():
    """Tracing and fake tensors only build a graph; a plain call runs."""
    found = []

    class Model(nn.Module):
        def forward(self, x):
            found.append(is_traced())
            return x + 1

    Model()(X)
    with FakeTensorMode(allow_non_fake_inputs=True):
        Model()(X)
    assert [False, True] == found


@pytest.mark.parametrize(
    ("settings", "module", "expected"),
    [
        ({}, nn.Linear(1, 1), None),
        ({}, nn.ReLU(), SkipReason.PARAMETERLESS),
        ({"parameterless": True}, nn.ReLU(), None),
        ({"excluded_models": ("*LU",)}, nn.ReLU(), SkipReason.EXCLUDED),
        ({"excluded_models": ("linear",)}, nn.Linear(1, 1), None),  # the case counts
        ({"excluded_models": ("A", "Linear")}, nn.Linear(1, 1), SkipReason.EXCLUDED),
        ({}, nn.Linear(1, 1, device="meta"), SkipReason.FAKE_TENSORS),
    ],
)
def test_why_a_model_is_never_recorded(settings, module, expected):
    """By the settings and by what it is; asking counts nothing."""
    admission = Admission(Settings(**settings))
    assert expected is admission.of_model(ModelInfo(module, lambda _: None))
    assert 0 == sum(admission.skipped.values())


def test_what_old_versions_of_torch_export_by():
    """Its call traces only, whatever else it is."""
    info = ModelInfo(nn.Linear(1, 1), lambda _: None)
    info.exports = True
    assert SkipReason.TRACING is Admission(Settings(excluded_models=("*",))).of_model(info)
