"""What the tests of the virtual GPU share. `make test-virtual-gpu` runs them."""

import sys
from pathlib import Path

import pytest

# Tests here share more than fixtures; under pytest's importlib mode no folder is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from virtual_gpu import VirtualGpu
from warpspan import guard
from warpspan.testing import InMemoryTelemetry


@pytest.fixture
def gpu():
    """This process's virtual GPU, with its first script."""
    import torch

    found = VirtualGpu()
    found.reset()
    torch.cuda.init()
    yield found
    found.reset()
    for index in range(torch.cuda.device_count()):
        torch.cuda.synchronize(index)
    torch.cuda.set_device(0)


@pytest.fixture
def telemetry(gpu):
    """Instrumented, and no fault of ours by the end."""
    guard.forget()
    with InMemoryTelemetry(sample_period_s=0) as entered:
        yield entered
    assert {} == dict(guard.faults)
