"""What tests of captures share: the helper that makes traces event by event."""

import sys
from pathlib import Path

import pytest

from tests.support.recorded import folder

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "sources" / "helpers"))


@pytest.fixture(scope="session")
def recorded_traces() -> Path:
    """The folder with profilers' traces of real GPUs; they are not part of the project."""
    return folder()
