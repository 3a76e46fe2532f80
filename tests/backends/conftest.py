"""The real backends: built once, started for the tests that need them, on loopback only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Tests here share more than fixtures; under pytest's importlib mode no folder is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import binaries
from collectors import Collector
from processes import running
from stores import Jaeger, Prometheus, Tempo


class Programs(dict):
    """Where each backend's program is. A test that asks for one that is not built is skipped."""

    def __getitem__(self, name):
        path = super().__getitem__(name)
        if not path.exists():
            reason = f"{name} is not built: `make backends` builds it and needs Go."
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        return path


@pytest.fixture(scope="session")
def programs():
    """Where each backend's program is; never skips in CI."""
    return Programs(binaries.paths())


@pytest.fixture
def start():
    """Starts processes, which end with the test."""
    with running() as start:
        yield start


@pytest.fixture(scope="module")
def start_for_module():
    """Starts processes, which end with the module's tests."""
    with running() as start:
        yield start


@pytest.fixture
def jaeger(programs, start, tmp_path):
    """A Jaeger of this test's own."""
    return Jaeger(start, programs["jaeger"], tmp_path)


@pytest.fixture
def tempo(programs, start, tmp_path):
    """A Tempo of this test's own."""
    return Tempo(start, programs["tempo"], tmp_path)


@pytest.fixture
def prometheus(programs, start, tmp_path):
    """A Prometheus of this test's own."""
    return Prometheus(start, programs["prometheus"], tmp_path)


@pytest.fixture
def collector(programs, start, tmp_path):
    """Starts a collector in one of the shipped roles."""

    def begin(role, **options):
        return Collector(start, programs["otelcol"], tmp_path, role, **options)

    return begin


@pytest.fixture
def watched(programs, start, tmp_path):
    """Starts a Prometheus that scrapes these collectors; its rules are the shipped ones in a hurry.

    How long a condition must hold is a matter of promtool's tests.
    """

    def watch(**collectors):
        targets = [(one.metrics_address, {"tier": tier}) for tier, one in collectors.items()]
        return Prometheus(
            start,
            programs["prometheus"],
            tmp_path,
            {"otelcol": targets},
            interval="1s",
            hurried=True,
        )

    return watch
