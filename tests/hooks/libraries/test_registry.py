"""Libraries are hooked when the program imports them, and never imported by us."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from warpspan import guard
from warpspan.hooks.libraries import registry
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.module_call import Switch

ROOT = Path(__file__).resolve().parents[3]

LATE = """
import sys
import torch
import warpspan
warpspan.WarpspanInstrumentor().instrument()
loaded = [name for name in ("transformers", "diffusers", "sentence_transformers") if name in sys.modules]
import transformers
print(loaded, hasattr(transformers.GenerationMixin.generate, "__wrapped__"))
print(hasattr(transformers.WhisperForConditionalGeneration.generate, "__wrapped__"))
"""


def test_what_is_imported_later_is_hooked():
    """Also an override in a model's own module, which is imported later still."""
    pytest.importorskip("transformers")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LATE],
        capture_output=True,
        text=True,
        timeout=600,
        env={"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"},
    )
    assert ("[] True\nTrue\n", 0) == (done.stdout, done.returncode), done.stderr


@pytest.fixture
def patches():
    guard.forget()
    made = Patches()
    yield made
    made.restore()
    guard.forget()


def imported(patches, module, tracker=True):
    """What happens when a program imports a module that one of our hooks waits for."""
    name = module.__name__
    load = lambda: registry.OWN[name]  # noqa: E731
    registry._imported(patches, Switch(object() if tracker else None), name, load, module)


@pytest.mark.parametrize("name", list(registry.OWN))
def test_a_module_without_anything(patches, name):
    """A library that has moved everything elsewhere is left alone."""
    imported(patches, types.ModuleType(name))
    assert ({}, []) == (dict(guard.faults), patches._applied)


@pytest.mark.parametrize("name", list(registry.OWN))
def test_a_module_that_raises(patches, name):
    """It costs the figures of that library: counted, and the import goes on."""

    class Broken(types.ModuleType):
        def __getattr__(self, name):
            raise RuntimeError(name)

    imported(patches, Broken(name))
    assert ({f"hook {name}": 1}, []) == (dict(guard.faults), patches._applied)


def test_switched_off(patches):
    """What is imported after `uninstrument` is left alone."""
    module = types.ModuleType("diffusers.pipelines.pipeline_utils")
    module.DiffusionPipeline = type("DiffusionPipeline", (), {})
    imported(patches, module, tracker=False)
    assert [] == patches._applied
