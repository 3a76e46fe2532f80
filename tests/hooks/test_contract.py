"""A hook of somebody else's for a library without an nn.Module: found, called, kept apart, removed."""

from __future__ import annotations

import importlib
import logging
import re
import sys
from pathlib import Path

import pytest

from warpspan import guard

ROOT = Path(__file__).resolve().parents[2]


def blocks(page):
    """The blocks of Python on a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


LIBRARY = '''
import torch

class Engine:
    """Runs a batch in two steps."""

    model_name = "tiny"

    def run(self, batch):
        self._prepare(batch)
        return [self._prefill(batch), self._decode(batch)]

    def _prepare(self, batch):
        pass

    def _prefill(self, batch):
        return torch.ones(len(batch)).sum().item()

    def _decode(self, batch):
        return torch.ones(len(batch)).sum().item()

    @classmethod
    def load(cls):
        return cls()


class Remote(Engine):
    """Of its own, what only it has is left alone."""

    def run(self, batch):
        if not batch:
            raise ValueError("nothing to do")
        return super().run(batch)

    @staticmethod
    def _prepare(batch):
        return None
'''

# The one that docs/hooks.md shows, and what a version of its library may lack.
(SHOWN,) = blocks("docs/hooks.md")
HOOK = f"""{SHOWN}
    api.wrap_call(getattr(module, "NotInThisVersion", None), "run", open_run)
    api.wrap_call(module.Engine, "load", open_run)
    api.wrap_call(module.Engine, "not_in_this_version", open_run)
"""


class Distribution:
    """One that is installed: its library, its hook and its metadata, which are text."""

    def __init__(self, folder):
        self.folder = folder
        self.library(LIBRARY)

    def library(self, text):
        (self.folder / "engine_lib.py").write_text(text)

    def hook(self, text, points='engine_lib = "engine_lib_hook:hook"'):
        (self.folder / "engine_lib_hook.py").write_text(text)
        metadata = self.folder / "engine_lib_hook-1.0.dist-info"
        metadata.mkdir()
        metadata.joinpath("METADATA").write_text(
            "Metadata-Version: 2.1\nName: engine-lib-hook\nVersion: 1.0\n"
        )
        lines = points.replace('"', "")
        metadata.joinpath("entry_points.txt").write_text(f"[warpspan_hook]\n{lines}\n")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution on the path, whose modules are not imported yet."""
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield Distribution(tmp_path)
    for name in ("engine_lib", "engine_lib_hook"):
        sys.modules.pop(name, None)


def engine_lib():
    return importlib.import_module("engine_lib")


def figures(span):
    """Name, batch size, steps, decode steps and generated tokens of a span."""
    names = ("input.batch.size", "step.count", "decode.step.count", "token.generated.count")
    return span["name"], *(span["attributes"].get(f"pytorch.{name}") for name in names)


@pytest.mark.parametrize("early", [True, False])
def test_a_call_is_one_inference(uninstrumented, installed, early):
    """With the batch size, steps and tokens that the hook says; imported before or afterwards."""
    installed.hook(HOOK)
    if early:
        engine_lib()
    uninstrumented.instrument()
    assert early is ("engine_lib_hook" in sys.modules)
    assert [3, 3] == engine_lib().Engine().run(["a", "b", "c"])
    assert [3, 3] == engine_lib().Remote().run(["a", "b", "c"])
    spans = uninstrumented.inferences()
    assert 2 * [("run tiny", 3, 2, 1, 2)] == [figures(span) for span in spans]
    assert ["pytorch.preprocess.time" in span["attributes"] for span in spans] == [True, False]


def test_errors_of_the_library_are_its_callers(uninstrumented, installed):
    """They reach the caller unchanged, and the span has their class."""
    installed.hook(HOOK)
    uninstrumented.instrument()
    with pytest.raises(ValueError, match="nothing to do"):
        engine_lib().Remote().run([])
    (span,) = uninstrumented.inferences()
    assert ("run tiny", "ValueError") == (span["name"], span["attributes"]["error.type"])


def test_uninstrument_takes_it_back(uninstrumented, installed):
    """Classes are as they were, also those that were made since; a later instrument hooks anew."""
    installed.hook(HOOK)
    library = engine_lib()
    before = [dict(vars(owner)) for owner in (library.Engine, library.Remote)]
    for _ in range(2):
        uninstrumented.instrument()
        later = type("Later", (library.Engine,), {"run": lambda self, batch: super().run(batch)})
        assert hasattr(later.run, "__wrapped__")
        assert hasattr(library.Engine.run, "__wrapped__")
        assert library.Engine.load().run(["a"]) == [1, 1]
        uninstrumented.uninstrument()
        assert not hasattr(later.run, "__wrapped__")
        assert before == [dict(vars(owner)) for owner in (library.Engine, library.Remote)]
    library.Engine().run(["a"])
    assert 2 == len(uninstrumented.inferences())


def test_uninstrumented_before_the_import(uninstrumented, installed):
    """Neither the library nor the hook is touched when the program imports it then."""
    installed.hook(HOOK)
    uninstrumented.instrument()
    uninstrumented.uninstrument()
    assert not hasattr(engine_lib().Engine.run, "__wrapped__")
    assert "engine_lib_hook" not in sys.modules


@pytest.mark.parametrize(
    ("hook", "points"),
    [
        ("def hook(module, api):\n    raise RuntimeError", 'engine_lib = "engine_lib_hook:hook"'),
        ("def hook(module, api):\n    module.Missing", 'engine_lib = "engine_lib_hook:hook"'),
        ("def hook():\n    pass", 'engine_lib = "engine_lib_hook:hook"'),
        ("import not_installed", 'engine_lib = "engine_lib_hook:hook"'),
        ("this is no Python", 'engine_lib = "engine_lib_hook:hook"'),
        ("", 'engine_lib = "engine_lib_hook:missing"'),
        ("", 'engine_lib = "no_such_module:hook"'),
        (HOOK.replace("args[0]", "args[9]"), 'engine_lib = "engine_lib_hook:hook"'),
        (HOOK.replace("len(self._batch)", "{}[0]"), 'engine_lib = "engine_lib_hook:hook"'),
        (HOOK.replace("len(value)", "{}[0]"), 'engine_lib = "engine_lib_hook:hook"'),
        (HOOK.replace('"run"\n', "None.name\n"), 'engine_lib = "engine_lib_hook:hook"'),
    ],
)
def test_a_hook_that_fails(uninstrumented, installed, caplog, hook, points):
    """Its faults are counted, logged once, and reach neither the import nor the call."""
    installed.hook(hook, points)
    uninstrumented.instrument()
    engine = engine_lib().Engine()
    assert [[2, 2]] * 3 == [engine.run(["a", "b"]) for _ in range(3)]
    assert ["hook engine_lib"] == list(guard.faults)
    (record,) = caplog.records
    assert ("warpspan", logging.WARNING) == (record.name, record.levelno)
    assert record.getMessage().startswith("warpspan: hook engine_lib failed, ")
    guard.forget()


def test_the_example_of_contributing_is_ours():
    """CONTRIBUTING shows the hook of sentence-transformers and its row as they are."""
    folder = ROOT / "src/warpspan/hooks/libraries"
    shown = [block for block in blocks("CONTRIBUTING.md") if "sentence_transformers" in block]
    files = ("sentence_transformers.py", "registry.py")
    assert [True, True] == [
        block in (folder / file).read_text(encoding="utf-8")
        for block, file in zip(shown, files, strict=True)
    ]


def test_metadata_that_can_not_be_read(uninstrumented, installed, monkeypatch):
    """Our own hooks are there all the same."""

    def fail(**wanted):
        raise OSError

    monkeypatch.setattr("warpspan.hooks.libraries.registry.entry_points", fail)
    uninstrumented.instrument()
    assert {"entry points": 1} == dict(guard.faults)
    guard.forget()
