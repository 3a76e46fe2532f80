"""What the tests on a GPU share."""

import pytest

from warpspan import guard
from warpspan.testing import InMemoryTelemetry


@pytest.fixture
def telemetry():
    """Instrumented, and no fault of ours by the end."""
    guard.forget()
    with InMemoryTelemetry() as entered:
        yield entered
    assert {} == dict(guard.faults)
