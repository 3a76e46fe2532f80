"""`warpspan.fused`, the name under which users import the kernels."""

import importlib
import subprocess
import sys

import pytest

import warpspan.fused
from warpspan.kernels.bench.ops import FILES


@pytest.mark.parametrize("name", sorted({*FILES.values(), "swap"}))
def test_a_module_is_the_same_under_both_names(name):
    """No copy is made: torch registers an operation once."""
    public = importlib.import_module(f"warpspan.fused.{name}")
    assert importlib.import_module(f"warpspan.kernels.{name}") is public


def test_every_public_name_is_there():
    """As docs/fused.md lists them."""
    assert [] == [name for name in warpspan.fused.__all__ if not hasattr(warpspan.fused, name)]


def test_without_triton_one_sentence_says_what_to_install():
    """On import, before anything else of it."""
    program = "import sys; sys.modules['triton'] = None; import warpspan.fused"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (
        "ImportError: warpspan.fused needs Triton, which comes with the CUDA and ROCm builds of "
        "torch; elsewhere: pip install triton"
    ) == done.stderr.splitlines()[-1]
