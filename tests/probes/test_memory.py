"""Peaks are exact for every inference, and the user's own counter is as it would have been."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warpspan.probes.memory import MemoryReading, PeakLedger, process_rss_bytes, requested_bytes


class Allocator:
    """The caching allocator's counters: current and peak, reset as the driver's are."""

    def __init__(self):
        self.current = self.peak = 0

    def change(self, amount):
        self.current = max(0, self.current + amount)
        self.peak = max(self.peak, self.current)

    def read(self):
        counters = {"current": self.current, "peak": self.peak, "allocated": 0, "freed": 0}
        return {
            "allocated_bytes": {"all": counters},
            "reserved_bytes": {"all": {"current": 2 * self.current, "peak": 2 * self.peak}},
            "oversize_allocations": {"current": self.current, "peak": self.peak},
            "num_alloc_retries": 0,
        }

    def reset(self):
        self.peak = self.current


@pytest.fixture
def allocator():
    return Allocator()


@pytest.fixture
def ledger(allocator):
    return PeakLedger(allocator.read, allocator.reset)


def user_peak(ledger, allocator):
    """What the patched readers show: the raw peak or what the ledger remembers."""
    path = ("allocated_bytes", "all")
    return max(allocator.read()["allocated_bytes"]["all"]["peak"], ledger.user_peaks().get(path, 0))


def test_one_inference(ledger, allocator):
    """The peak inside the window, not the higher one before it."""
    allocator.change(1000)
    allocator.change(-900)
    holder, start = ledger.open()
    allocator.change(400)
    allocator.change(-300)
    end = ledger.close(holder)
    assert MemoryReading(100, 200, 0) == start
    assert MemoryReading(200, 400, 0) == end
    assert 500 == holder.peak
    assert 1000 == user_peak(ledger, allocator)


def test_nested_and_overlapping_inferences(ledger, allocator):
    """Each holds its own peak, whatever the others open and close meanwhile."""
    outer, _ = ledger.open()
    allocator.change(500)
    allocator.change(-500)
    inner, _ = ledger.open()
    allocator.change(200)
    ledger.close(inner)
    other, _ = ledger.open()
    allocator.change(100)
    ledger.close(outer)
    allocator.change(50)
    ledger.close(other)
    assert (500, 200, 350) == (outer.peak, inner.peak, other.peak)


def test_a_reset_by_the_user_restarts_only_the_users_peak(ledger, allocator):
    """vLLM resets inside what is one inference for us."""
    holder, _ = ledger.open()
    allocator.change(700)
    allocator.change(-600)
    ledger.reset_user()
    assert 100 == user_peak(ledger, allocator)
    ledger.close(holder)
    assert 700 == holder.peak


def test_every_counter_with_a_peak_is_kept_for_the_user(ledger, allocator):
    """memory_summary() prints peaks of all of them, also those that are not nested by pool."""
    allocator.change(10)
    allocator.change(-10)
    ledger.open()
    assert {
        ("allocated_bytes", "all"): 10,
        ("reserved_bytes", "all"): 20,
        ("oversize_allocations",): 10,
    } == ledger.user_peaks()


def test_what_waits_to_be_folded_is_bounded(ledger):
    """A user that never reads peaks costs no memory."""
    for _ in range(1000):
        ledger.close(ledger.open()[0])
    assert len(ledger._pending) < 64
    assert {} == ledger._holders


@given(st.lists(st.one_of(st.integers(-500, 500), st.sampled_from(["open", "close", "reset"]))))
def test_any_order_of_events(events):
    """Against a model that looks at every single change."""
    allocator = Allocator()
    ledger = PeakLedger(allocator.read, allocator.reset)
    open_windows, user = [], 0
    for event in events:
        if event == "open":
            open_windows.append([ledger.open()[0], allocator.current])
        elif event == "close" and open_windows:
            holder, expected = open_windows.pop(0)
            ledger.close(holder)
            assert expected == holder.peak
        elif event == "reset":
            ledger.reset_user()
            user = allocator.current
        elif isinstance(event, int):
            allocator.change(event)
            user = max(user, allocator.current)
            for window in open_windows:
                window[1] = max(window[1], allocator.current)
        assert user == user_peak(ledger, allocator)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total", 20 * 2**30),
        ("HIP out of memory. Tried to allocate 512.00 KiB.", 512 * 2**10),
        ("CUDA out of memory. Tried to allocate 2.50 MiB", 5 * 2**19),
        ("Tried to allocate 300 bytes", 300),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes.", 4096),
        ("mat1 and mat2 shapes cannot be multiplied", None),
    ],
)
def test_the_size_of_the_allocation_that_failed(message, expected):
    """From torch's own messages, nothing where they don't say it."""
    assert expected == requested_bytes(message)


def test_resident_memory_of_this_process():
    """In bytes: more than a megabyte and less than a terabyte."""
    assert 2**20 < process_rss_bytes() < 2**40
