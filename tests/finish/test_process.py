"""The process that an inference runs in: resident memory, and what is frozen."""

from __future__ import annotations

import gc
import time

import pytest
from torch import nn

from tests.support.windows import closed_window, host
from warpspan.finish import process
from warpspan.finish.assemble import assemble
from warpspan.finish.process import GcFreezer, ProcessMemory
from warpspan.probes.model import ModelInfo
from warpspan.probes.runtime_device import RuntimeDevice
from warpspan.records import Device, Memory

_WARM_AFTER = 16


@pytest.fixture
def now(monkeypatch):
    """The time in nanoseconds, which the test sets."""
    times = [1]
    monkeypatch.setattr(time, "perf_counter_ns", lambda: times[0])
    return times


@pytest.fixture
def readings(monkeypatch):
    """What the system says of the process, one after the other."""
    left = [100, 200, 300]
    monkeypatch.setattr(process, "process_rss_bytes", lambda: left.pop(0))
    return left


def memory(contributor, runtime_device=None, before=None):
    """The memory of an inference after a contributor added to it."""
    window = closed_window(runtime_device or host())
    draft = assemble(window, device_done=True)
    draft.memory = before
    contributor.contribute(window, draft)
    return draft.memory


def test_resident_memory(readings):
    """Of the whole process, for an inference on the host."""
    assert Memory(rss_bytes=100) == memory(ProcessMemory())


def test_an_inference_on_a_device_has_none(readings):
    """Its memory is the device's; the system is not asked."""
    assert memory(ProcessMemory(), RuntimeDevice(Device("cuda", 0))) is None
    assert [100, 200, 300] == readings


def test_the_size_of_a_failed_allocation_stays(readings):
    """It was added before."""
    found = memory(ProcessMemory(), before=Memory(oom_requested_bytes=7))
    assert Memory(oom_requested_bytes=7, rss_bytes=100) == found


def test_one_reading_serves_for_a_while(now, readings):
    """Then the system is asked again."""
    contributor, found = ProcessMemory(), []
    for now[0] in (1, 50_000_000, 50_000_001, 100_000_000, 100_000_001):
        found.append(memory(contributor).rss_bytes)
    assert [100, 100, 200, 200, 300] == found


def test_a_system_that_does_not_say(monkeypatch):
    """The group is absent, and what was known before stays."""
    monkeypatch.setattr(process, "process_rss_bytes", lambda: None)
    assert memory(ProcessMemory()) is None
    known = Memory(oom_requested_bytes=7)
    assert known is memory(ProcessMemory(), before=known)


@pytest.fixture
def frozen(monkeypatch):
    """What is asked of the garbage collector."""
    asked = []
    monkeypatch.setattr(gc, "collect", lambda: asked.append("collect"))
    monkeypatch.setattr(gc, "freeze", lambda: asked.append("freeze"))
    return asked


def run(freezer, model, times):
    """Finish some inferences of a model."""
    window = closed_window(host(), model=model)
    for _ in range(times):
        freezer.contribute(window, None)


def model_info():
    module = nn.Linear(1, 1)
    return ModelInfo(module, lambda _: None)


def test_a_warm_model_freezes_once(frozen):
    """After its garbage is collected; further inferences change nothing."""
    freezer, model = GcFreezer(), model_info()
    run(freezer, model, _WARM_AFTER - 1)
    assert [] == frozen
    run(freezer, model, 1)
    assert ["collect", "freeze"] == frozen
    run(freezer, model, _WARM_AFTER)
    assert ["collect", "freeze"] == frozen


def test_each_model_warms_up_by_itself(frozen):
    """Calls of one don't make another warm."""
    freezer = GcFreezer()
    one, other = model_info(), model_info()
    run(freezer, one, _WARM_AFTER - 1)
    run(freezer, other, _WARM_AFTER - 1)
    assert [] == frozen
    run(freezer, other, 1)
    assert ["collect", "freeze"] == frozen


@pytest.mark.parametrize("model", [None, "Tiny"])
def test_a_model_that_was_not_seen_freezes_nothing(frozen, model):
    """It can't be told from another."""
    run(GcFreezer(), model, 2 * _WARM_AFTER)
    assert [] == frozen
