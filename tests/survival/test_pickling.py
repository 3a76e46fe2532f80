"""Classes of a program that is instrumented, pickled by value."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

PROGRAM = Path(__file__).parent / "programs" / "pickled_classes.py"
LOADED = """
import importlib, json, sys
sys.modules["warpspan"] = None  # as where it is not installed
loads = importlib.import_module(sys.argv[1]).loads
adder, shouter = (loads(bytes.fromhex(one)) for one in json.load(sys.stdin))
said = shouter()
print([adder().generate(2), adder().generate(2, more=5), said.postprocess(said.preprocess("a"))])
"""


@pytest.mark.parametrize("library", ["cloudpickle", "dill"])
def test_classes_of_a_notebook(library):
    """They are pickled with what they override, and loaded where warpspan is not installed."""
    done = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr
    pickled = json.loads(done.stdout)[library]
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED, library],
        input=json.dumps(pickled),
        capture_output=True,
        text=True,
    )
    assert ("[3, 7, 'A!']\n", 0) == (loaded.stdout, loaded.returncode), loaded.stderr
