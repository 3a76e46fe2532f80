"""Garbage collections: counted, and what lives on taken out of them."""

import gc
import subprocess
import sys

import pytest
import torch

from warpspan.probes import garbage
from warpspan.testing import InMemoryTelemetry

FREEZE = """
import gc
from warpspan.probes.garbage import Freezer

class Model:
    pass

first, second, freezer = Model(), Model(), Freezer()
def warm(model, times):
    for _ in range(times):
        freezer.finished(model)
    return gc.get_freeze_count()

counts = [warm(first, 15), warm(first, 1)]
lasting = [[] for _ in range(1000)]
counts += [warm(first, 100), warm(second, 15), warm(second, 1)]
assert counts[0] == 0 < counts[1]
assert counts[1] == counts[2] == counts[3]
assert counts[4] >= counts[3] + 1000
"""


@pytest.fixture
def watched():
    garbage.watch()
    yield
    garbage.unwatch()


def test_collections_are_counted_and_timed(watched):
    """Between two moments."""
    began = garbage.state[0]
    gc.collect()
    gc.collect()
    seconds, count = garbage.between(began, garbage.state[0])
    assert 2 == count
    assert seconds > 0


def test_nothing_is_claimed_where_nobody_counted():
    """Absent, not 0; and it leaves no callback behind."""
    assert (None, None) == garbage.between(garbage.state[0], garbage.state)
    before = list(gc.callbacks)
    garbage.watch()
    began = garbage.state[0]
    garbage.unwatch()
    garbage.watch()
    assert (None, None) == garbage.between(began, garbage.state[0])
    garbage.watch()
    assert len(before) + 1 == len(gc.callbacks)
    garbage.unwatch()
    garbage.unwatch()
    assert before == gc.callbacks


def test_an_inference_has_the_collections_inside_it():
    """Those before and after it are not its own."""

    class Collecting(torch.nn.Linear):
        def forward(self, x):
            gc.collect()
            return super().forward(x)

    gc.disable()
    try:
        with InMemoryTelemetry() as telemetry, torch.inference_mode():
            model = Collecting(2, 2)
            gc.collect()
            model(torch.ones(1, 2))
            gc.collect()
            (record,) = telemetry.records()
    finally:
        gc.enable()
    assert 1 == record.timing.gc_count
    assert record.timing.gc_time_s > 0


def test_a_model_that_gets_warm_freezes_what_is_alive():
    """Once a model, after its first inferences; again for one that is loaded later."""
    subprocess.run([sys.executable, "-c", FREEZE], check=True, timeout=300)


def test_it_is_asked_for_by_a_setting():
    """Without it, nothing is frozen."""
    before = gc.get_freeze_count()
    try:
        with InMemoryTelemetry(gc_freeze=True) as telemetry, torch.inference_mode():
            model = torch.nn.Linear(2, 2)
            for _ in range(16):
                model(torch.ones(1, 2))
            assert 16 == len(telemetry.records())
            assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
