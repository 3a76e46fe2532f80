"""What tests of readers share: traces made event by event, and the recorded ones."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "helpers"))

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder with profilers' traces of real GPUs; they are not part of the project."""
    places = [ROOT.parent / "shared" / "traces", ROOT.parent.parent / "shared" / "traces"]
    if given := os.environ.get("WARPSPAN_TRACES"):
        places.insert(0, Path(given))
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        pytest.skip("no recorded traces in ../shared/traces (WARPSPAN_TRACES names another place)")
    return found
