"""What the tests on a GPU share."""

import contextlib
import warnings

import pytest

from warpspan import guard
from warpspan.testing import InMemoryTelemetry


def is_virtual():
    """Whether the device is the one of tests/virtual_gpu."""
    import torch

    return torch.cuda.is_available() and torch.cuda.get_device_name() == "virtual GPU"


def pytest_runtest_setup(item):
    """Skip what the virtual GPU can't do, and say why."""
    if (marker := item.get_closest_marker("real_gpu")) and is_virtual():
        pytest.skip(f"the virtual GPU has no {marker.args[0]}")


@pytest.fixture(autouse=True)
def right_values(request):
    """Let the virtual GPU compute, for a test that looks at numbers."""
    if request.node.get_closest_marker("values") is None or not is_virtual():
        yield
        return
    from virtual_gpu import values

    with values.right():
        yield
    assert {} == values.missed()


@pytest.fixture
def telemetry():
    """Instrumented, and no fault of ours by the end."""
    guard.forget()
    with InMemoryTelemetry() as entered:
        yield entered
    assert {} == dict(guard.faults)


@pytest.fixture
def no_waits():
    """A block in which torch raises at every synchronizing call of its operators."""
    import torch

    @contextlib.contextmanager
    def block():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that this mode of it is a prototype
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return block
