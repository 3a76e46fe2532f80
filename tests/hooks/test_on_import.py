"""What is to be done at an import is done once, or never after it was called off."""

from __future__ import annotations

import gc
import importlib
import sys
import weakref

import pytest
from wrapt import importer

from warpspan import guard
from warpspan.hooks import on_import
from warpspan.hooks.on_import import OnImport

NAME = "warpspan_test_module"


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    """A module that is not imported yet."""
    guard.forget()
    (tmp_path / f"{NAME}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop(NAME, None)
    guard.forget()


def registered():
    """What wrapt keeps for the module."""
    return list(importer._post_import_hooks.get(NAME) or ())


def test_at_the_import():
    """Each is called with the module, in the order in which they came, and is then forgotten."""
    seen = []
    for number in (1, 2):
        OnImport(NAME, lambda module, number=number: seen.append((number, module.__name__)))
    assert [] == seen
    importlib.import_module(NAME)
    assert [(1, NAME), (2, NAME)] == seen
    assert (False, []) == (NAME in on_import._waiting, registered())


def test_what_is_imported_already():
    """It is called at once."""
    module, seen = importlib.import_module(NAME), []
    OnImport(NAME, seen.append)
    assert ([module], False) == (seen, NAME in on_import._waiting)


def test_called_off():
    """It is not called, and nothing keeps it alive; calling it off twice is once."""

    class Callback:
        def __call__(self, module):
            raise AssertionError(module)

    callback = Callback()
    reference = weakref.ref(callback)
    waiting = OnImport(NAME, callback)
    del callback
    waiting.cancel()
    waiting.cancel()
    gc.collect()
    assert (None, False) == (reference(), NAME in on_import._waiting)
    importlib.import_module(NAME)
    assert {} == dict(guard.faults)


def test_many_times_registers_once():
    """wrapt, which forgets nothing before the import, knows one function for a module."""
    OnImport(NAME, print).cancel()
    once = registered()
    for _ in range(10):
        OnImport(NAME, print).cancel()
    assert (1, once) == (len(once), registered())
    importlib.import_module(NAME)


def test_an_import_after_the_module_was_dropped():
    """A module that is imported anew, because a test or a reloader dropped it, is waited for anew."""
    importlib.import_module(NAME)
    del sys.modules[NAME]
    seen = []
    OnImport(NAME, seen.append)
    assert [] == seen
    assert [importlib.import_module(NAME)] == seen


def test_what_raises():
    """It is counted, the others are called, and the import goes on."""

    def fail(module):
        raise RuntimeError

    seen = []
    OnImport(NAME, fail)
    OnImport(NAME, seen.append)
    assert [importlib.import_module(NAME)] == seen
    assert {"import hook": 1} == dict(guard.faults)
