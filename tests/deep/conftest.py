"""What tests of captures share: the helper that makes traces event by event."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "sources" / "helpers"))


@pytest.fixture(scope="session")
def recorded_traces() -> Path:
    """The folder with profilers' traces of real GPUs; they are not part of the project."""
    places = [ROOT.parent / "shared" / "traces", ROOT.parent.parent / "shared" / "traces"]
    if given := os.environ.get("WARPSPAN_TRACES"):
        places.insert(0, Path(given))
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        pytest.skip("no recorded traces in ../shared/traces (WARPSPAN_TRACES names another place)")
    return found
