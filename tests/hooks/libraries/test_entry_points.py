"""Entry points that the user names: one inference a call; a wrong name is one clear sentence."""

import importlib
import logging
import os
import subprocess
import sys

import pytest
import torch

import warpspan
from warpspan import guard

LIBRARY = '''
import torch
from torch import nn


class Predictor:
    """Runs two models for one request."""

    def __init__(self):
        self.encoder = nn.Linear(4, 4).eval()
        self.model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()

    def predict(self, x, fail=False):
        """Two calls of models."""
        x = self.model(self.encoder(x))
        if fail:
            raise ValueError("no")
        return x

    @staticmethod
    def build():
        return Predictor()

    class Inner:
        def run(self, x):
            return nn.Linear(4, 4).eval()(nn.Linear(4, 4).eval()(x))


class Derived(Predictor):
    pass


def pipeline(x, *, model=None):
    """A function that calls a model twice."""
    return model(model(x))


class Net(nn.Module):
    """A module, whose calls are inferences anyway."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x)
'''
X = torch.ones(2, 4)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Where a library lies that nobody has imported yet; the call imports it."""
    tmp_path.joinpath("own_lib").mkdir()
    tmp_path.joinpath("own_lib", "__init__.py").touch()
    tmp_path.joinpath("own_lib", "parts.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield lambda: importlib.import_module("own_lib.parts")
    for name in ("own_lib", "own_lib.parts"):
        sys.modules.pop(name, None)
    guard.forget()


def spans(telemetry):
    """Name, steps and batch of each inference."""
    names = ("pytorch.step.count", "pytorch.input.batch.size")
    return [(span.name, *map(span.attributes.get, names)) for span in telemetry.spans()]


@pytest.mark.parametrize("early", [True, False])
def test_a_method_and_a_function(uninstrumented, library, early):
    """Imported before or afterwards; the owner's model, or the one that is given, names the span."""
    if early:
        library()
    named = ["own_lib.parts:Predictor.predict", "own_lib.parts:pipeline"]
    uninstrumented.instrument(entry_points=named)
    parts = library()
    parts.Predictor().predict(X)
    parts.pipeline(X, model=torch.nn.Linear(4, 4).eval())
    parts.pipeline(x=X, model=torch.nn.Linear(4, 4).eval())
    assert [
        ("predict Sequential", 2, 2),
        ("pipeline Linear", 2, 2),
        ("pipeline Linear", 2, 2),
    ] == spans(uninstrumented)
    assert "A function that calls a model twice." == parts.pipeline.__doc__


def test_inherited_and_nested(uninstrumented, library):
    """A method that a class inherits is named for that class alone; a class may be in a class."""
    named = "own_lib.parts:Derived.predict, own_lib.parts:Predictor.Inner.run"
    uninstrumented.instrument(entry_points=named)
    parts = library()
    parts.Derived().predict(X)
    parts.Predictor.Inner().run(X)
    assert [("predict Sequential", 2, 2), ("run", 2, 2)] == spans(uninstrumented)
    parts.Predictor().predict(X)
    assert ["forward Linear", "forward Sequential"] == [
        span[0] for span in spans(uninstrumented)[2:]
    ]


def test_errors_and_uninstrument(uninstrumented, library):
    """What it raises reaches the caller and the span; afterwards the library is as it was."""
    parts = library()
    before = (vars(parts.Predictor)["predict"], parts.pipeline)
    named = ["own_lib.parts:Predictor.predict", "own_lib.parts:pipeline"]
    uninstrumented.instrument(entry_points=named)
    with pytest.raises(ValueError, match="no"):
        parts.Predictor().predict(X, fail=True)
    (span,) = uninstrumented.spans()
    assert "ValueError" == span.attributes["error.type"]
    uninstrumented.uninstrument()
    assert before == (vars(parts.Predictor)["predict"], parts.pipeline)


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        (
            "own_lib.parts.Predictor",
            "The entry point 'own_lib.parts.Predictor' is ignored: write "
            "package.module:Class.method or package.module:function.",
        ),
        (
            "own_libs.parts:Predictor.predict",
            "The entry point 'own_libs.parts:Predictor.predict' is ignored: "
            "no module named 'own_libs' is installed.",
        ),
        (
            "own_lib.parts:Predictor.predikt",
            "The entry point 'own_lib.parts:Predictor.predikt' is ignored: "
            "Predictor has no 'predikt'. Did you mean 'predict'?",
        ),
        (
            "own_lib.parts:Pridictor.predict",
            "The entry point 'own_lib.parts:Pridictor.predict' is ignored: "
            "own_lib.parts has no 'Pridictor'. Did you mean 'Predictor'?",
        ),
        (
            "own_lib.part:Predictor.predict",
            "The entry point 'own_lib.part:Predictor.predict' is ignored: "
            "no module named 'own_lib.part' is installed.",
        ),
        (
            "own_lib.parts:Predictor.build",
            "The entry point 'own_lib.parts:Predictor.build' is ignored: it is called without an "
            "object. Put `warpspan.inference()` around what it does.",
        ),
        (
            "own_lib.parts:Net.__call__",
            "The entry point 'own_lib.parts:Net.__call__' is ignored: calls of a module are "
            "recorded as they are.",
        ),
    ],
)
def test_a_wrong_name_is_one_sentence(uninstrumented, library, caplog, named, sentence):
    """It costs nothing else: a right one beside it is recorded."""
    with caplog.at_level(logging.WARNING, "warpspan"):
        uninstrumented.instrument(entry_points=[named, "own_lib.parts:Predictor.predict"])
        library().Predictor().predict(X)
    assert [sentence] == [record.getMessage() for record in caplog.records]
    assert [("predict Sequential", 2, 2)] == spans(uninstrumented)


PROGRAM = """
import torch, warpspan
from warpspan.testing import InMemoryTelemetry
telemetry = InMemoryTelemetry()
warpspan.WarpspanInstrumentor().instrument(
    tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider
)
from own_lib.parts import Predictor
Predictor().predict(torch.ones(2, 4))
print([span.name for span in telemetry.spans()])
"""


def test_the_environment_variable(tmp_path, library):
    """It names entry points without a line of code."""
    variable = "OTEL_PYTHON_WARPSPAN_ENTRY_POINTS"
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": path, variable: "own_lib.parts:Predictor.predict"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ("['predict Sequential']\n", "", 0) == (done.stdout, done.stderr, done.returncode)


def test_inside_another_inference(uninstrumented, library):
    """A call of an entry point is a part of the one that is open."""
    uninstrumented.instrument(entry_points=["own_lib.parts:Predictor.predict"])
    with warpspan.inference("request"):
        library().Predictor().predict(X)
    assert [("request", 2, 2)] == spans(uninstrumented)
