"""What tests of readers share: traces made event by event, and the recorded ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.recorded import folder

sys.path.insert(0, str(Path(__file__).resolve().parent / "helpers"))

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder with profilers' traces of real GPUs; they are not part of the project."""
    return folder()
