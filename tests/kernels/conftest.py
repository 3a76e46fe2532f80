"""Kernels run on the GPU where there is one, else in Triton's interpreter on the CPU."""

import os
from pathlib import Path

import pytest
import torch

# Triton 3.9 warns where this is not set; its default until then.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
triton = pytest.importorskip("triton")

# The interpreter of Triton 3.0 (torch 2.4) gives wrong numbers with today's numpy.
INTERPRETER_WORKS = tuple(int(part) for part in triton.__version__.split(".")[:2]) >= (3, 6)
REASON = f"Triton's interpreter serves from 3.6 on, this is {triton.__version__}"


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        elif item.path.parent == here and not INTERPRETER_WORKS:  # each runs a kernel
            item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.fixture
def kernels():
    """For a test of the benchmark that runs kernels: on a GPU, or in a right interpreter."""
    if not (INTERPRETER_WORKS or torch.cuda.is_available()):
        pytest.skip(REASON)


@pytest.fixture
def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def generator(device):
    return torch.Generator(device).manual_seed(20261123)


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield
