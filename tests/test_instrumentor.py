"""The instrumentor: what OpenTelemetry asks of it, and what happens where it can't work."""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import is_dataclass

import pytest
import torch
from opentelemetry.instrumentation.dependencies import get_dependency_conflicts
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from torch import nn

import warpspan
from warpspan import config, guard, session
from warpspan.config import Settings
from warpspan.hooks import on_import
from warpspan.instrumentor import WarpspanInstrumentor, active_tracker

X = torch.ones(2, 4)


def test_it_is_an_instrumentor():
    """One of OpenTelemetry's, with a declarative configuration that is a dataclass."""
    assert isinstance(WarpspanInstrumentor(), BaseInstrumentor)
    assert WarpspanInstrumentor.configuration is config.Configuration
    assert is_dataclass(config.Configuration)


def test_the_torch_that_is_installed_is_supported():
    """No conflict, as the launcher asks it."""
    assert get_dependency_conflicts(WarpspanInstrumentor().instrumentation_dependencies()) is None


@pytest.mark.parametrize(
    ("version", "supported"),
    [
        ("2.4.0", True),
        ("2.4.0a0+git1234", True),
        ("2.6.0a0+ecf3bae40a.nv25.1", True),
        ("2.16.0.dev20261120+cu130", True),
        ("2.3.1", False),
    ],
)
def test_versions_of_torch(monkeypatch, version, supported):
    """From 2.4 on, nightly and vendor builds included."""

    monkeypatch.setattr("opentelemetry.instrumentation.dependencies.version", lambda name: version)
    conflicts = get_dependency_conflicts(WarpspanInstrumentor().instrumentation_dependencies())
    assert supported is (conflicts is None)


def test_with_an_old_torch_nothing_is_patched(uninstrumented, monkeypatch, caplog):
    """OpenTelemetry's own message says so, and the program runs."""
    monkeypatch.setattr(
        WarpspanInstrumentor, "instrumentation_dependencies", lambda self: ("torch >= 99",)
    )
    uninstrumented.instrument()
    assert torch.nn.Module.__call__ is torch.nn.Module._wrapped_call_impl
    assert active_tracker() is None
    assert 1 == len(caplog.records)


def test_options_reach_the_tracker(uninstrumented, monkeypatch):
    """Arguments before the environment."""
    monkeypatch.setenv("OTEL_PYTHON_WARPSPAN_QUEUE_SIZE", "32")
    monkeypatch.setenv("OTEL_PYTHON_WARPSPAN_MEMORY", "false")
    uninstrumented.instrument(memory=True, excluded_models=["A"])
    assert Settings(queue_size=32, memory=True, excluded_models=("A",)) == (
        active_tracker().settings
    )


def test_no_tracker_without_instrumentation(uninstrumented):
    """Before and after there is none."""
    assert active_tracker() is None
    uninstrumented.instrument()
    assert active_tracker() is not None
    uninstrumented.uninstrument()
    assert active_tracker() is None


def test_a_torch_that_can_not_be_patched(uninstrumented, monkeypatch, caplog):
    """A fault of ours while patching is logged once; torch stays as it is and the program runs."""

    def fail(*args):
        raise AttributeError("no such attribute in this torch")

    monkeypatch.setattr(session.module_call, "patch", fail)
    uninstrumented.instrument()
    assert torch.nn.Module.__call__ is torch.nn.Module._wrapped_call_impl
    assert (2, 4) == nn.Linear(4, 4).eval()(X).shape
    with warpspan.inference("rerank"):
        pass
    assert [] == uninstrumented.inferences()
    assert {"instrument": 1} == guard.faults
    guard.forget()
    assert 1 == len(caplog.records)


@pytest.mark.parametrize("surface", ["cuda_graph", "peak_memory"])
def test_a_torch_that_can_be_patched_in_part(uninstrumented, monkeypatch, surface):
    """What was patched before the fault is taken back: all or nothing."""
    before = dict(vars(torch.cuda.CUDAGraph))

    def fail(*args):
        raise AttributeError("no such attribute in this torch")

    monkeypatch.setattr(getattr(session, surface), "patch", fail)
    uninstrumented.instrument()
    assert torch.nn.Module.__call__ is torch.nn.Module._wrapped_call_impl
    assert before == dict(vars(torch.cuda.CUDAGraph))
    assert active_tracker() is None
    guard.forget()


def test_before_torch_is_imported(uninstrumented, monkeypatch):
    """Nothing happens until the host imports it; uninstrumenting before that cancels it."""
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "torch")
        uninstrumented.instrument()
        assert active_tracker() is None
        uninstrumented.uninstrument()
        uninstrumented.instrument()
        assert 1 == len(on_import._waiting["torch"])
        uninstrumented.uninstrument()
        on_import._loaded(torch)
        assert active_tracker() is None
        uninstrumented.instrument()
    on_import._loaded(torch)
    tracker = active_tracker()
    nn.Linear(4, 4).eval()(X)
    assert ["forward Linear"] == [span["name"] for span in uninstrumented.inferences()]
    assert tracker is active_tracker()


def test_version():
    """The package and its distribution, where it is installed, have one version."""
    try:
        installed = importlib.metadata.version("warpspan")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("warpspan is not installed")
    assert installed == warpspan.__version__
