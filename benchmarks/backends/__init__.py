"""What an application feels of faults behind its exporter."""

import sys
from pathlib import Path

#: The real backends are started as their tests start them.
TESTS = Path(__file__).resolve().parents[2] / "tests" / "backends"
sys.path.insert(0, str(TESTS))
